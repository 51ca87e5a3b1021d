"""Rules for pooling: torch's layers where padding is alike on both sides, functions that pad first elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_compress.graph.bridge.layers import pads_of, sides, spatial
from edge_compress.graph.bridge.rules import Plan, RefusedError, View, rule

_MAX: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_GLOBAL: dict[int, tuple[Any, Any]] = {
    3: (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    4: (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    5: (nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
}


@rule("GlobalAveragePool", "GlobalMaxPool")
def over_everything(view: View) -> Plan:
    """Adaptive pooling to one value."""
    if view.rank() not in _GLOBAL:
        raise RefusedError("a rank other than 3 to 5")
    return Plan(_GLOBAL[view.rank()][view.node.op == "GlobalMaxPool"](1))


@rule("MaxPool", "AveragePool")
def pool(view: View) -> Plan:
    """MaxPool and AvgPool, 1d to 3d."""
    kernel = tuple(view.attr("kernel_shape"))
    if len(kernel) not in _MAX or len(view.node.outputs) > 1 or view.attr("storage_order", 0):
        raise RefusedError("indices as an output, or more than 3 spatial axes")
    geometry = spatial(view, len(kernel))
    pads = pads_of(view, kernel, geometry["stride"], geometry["dilation"])
    padding, unlike = sides(pads)
    ceil = bool(view.attr("ceil_mode", 0))
    plain = not unlike and all(2 * pad <= size for pad, size in zip(padding, kernel, strict=True))
    if view.node.op == "MaxPool":
        layer = _MAX[len(kernel)](kernel, padding=padding if plain else 0, ceil_mode=ceil, **geometry)
        return Plan(layer if plain else partial(pool_padded, layer=layer, pads=pads, value=float("-inf")))
    if any(step != 1 for step in geometry["dilation"]):
        raise RefusedError("dilations")
    counted = bool(view.attr("count_include_pad", 0))
    layer = _AVERAGE[len(kernel)](kernel, geometry["stride"], padding if plain else 0, ceil, counted)
    if plain:
        return Plan(layer)
    return Plan(partial(pool_padded if counted else average_inside, layer=layer, pads=pads))


def pool_padded(x: Tensor, *, layer: nn.Module, pads: tuple[int, ...], value: float = 0.0) -> Tensor:
    """Pad, then pool."""
    half = len(pads) // 2
    order = [side for axis in reversed(range(half)) for side in (pads[axis], pads[half + axis])]
    pooled: Tensor = layer(F.pad(x, order, value=value))
    return pooled


def average_inside(x: Tensor, *, layer: nn.Module, pads: tuple[int, ...]) -> Tensor:
    """The mean over what lies inside, not over the padding."""
    inside = pool_padded(torch.ones_like(x[:1, :1]), layer=layer, pads=pads)
    return pool_padded(x, layer=layer, pads=pads) / inside
