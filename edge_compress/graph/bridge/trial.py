"""Runs a module for the shape of what it gives, on inputs that hold nothing. Convolutions are not computed in full for that."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.values import blank

_CONVS: dict[type, Any] = {nn.Conv1d: torch.conv1d, nn.Conv2d: torch.conv2d, nn.Conv3d: torch.conv3d}


def tried(module: nn.Module, *args: Any) -> Any:
    """The module's result, or zeros of its shape. Raises what torch raises where the arguments do not fit."""
    if type(module) in _CONVS and isinstance(args[0], Tensor) and args[0].dim() == len(module.kernel_size) + 2:  # type: ignore[arg-type]  # convolutions have one
        return _convolved(module, args[0])
    return module(*args)


def _convolved(layer: Any, x: Tensor) -> Tensor:
    """The spatial axes by a kernel of one channel."""
    if x.shape[1] != layer.in_channels:
        raise ValueError(f"given {x.shape[1]} channels, expected {layer.in_channels}")
    thin = _CONVS[type(layer)](
        blank((1, 1, *x.shape[2:]), x.dtype), blank((1, 1, *layer.kernel_size), x.dtype), None,
        layer.stride, layer.padding, layer.dilation,
    )  # fmt: skip
    return blank((x.shape[0], layer.weight.shape[0], *thin.shape[2:]), x.dtype)
