"""BatchNorm layers for models that were exported without: put behind every convolution for training, merged back after. Public.

Exporters merge BatchNorm into the convolution before it, and what is left trains badly: weights of any scale, no statistics to
follow what pruning changed. ``unfold`` gives each convolution one again that changes nothing, ``fold`` undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

_CONVS: dict[type, type[Any]] = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
_NORMS = tuple(_CONVS.values())
_LENGTH = 2**0.5
"""length of each filter under a BatchNorm, where its own length does not count: that of a fresh layer before a ReLU"""


class Normed(nn.Sequential):
    """A convolution and the BatchNorm that ``unfold`` put behind it."""


def unfold(module: fx.GraphModule, batches: Sequence[Sequence[Tensor]]) -> int:
    """Put a BatchNorm behind each convolution that has none, in place, with the statistics of ``batches``; returns how many.

    In eval mode the module answers as before. Layers that are used in several places are left as they are.
    """
    paths = _bare(module)
    moments = _moments(module, paths, batches)
    for path in paths:
        mean, variance = moments[path]
        _replace(module, path, _normed(module.get_submodule(path), mean, variance))
    return len(paths)


def fold(module: nn.Module) -> None:
    """Merge every BatchNorm that ``unfold`` put in, in place; in eval mode the module answers as before."""
    for path, part in list(module.named_modules()):
        if isinstance(part, Normed):
            _replace(module, path, _merged(part[0], part[1]))


def _bare(module: fx.GraphModule) -> list[str]:
    calls = [node for node in module.graph.nodes if node.op == "call_module"]
    uses = [node.target for node in calls]
    layers = {node: module.get_submodule(str(node.target)) for node in calls}
    convs = [node for node in calls if type(layers[node]) in _CONVS and uses.count(node.target) == 1]
    return [str(node.target) for node in convs if not any(isinstance(layers.get(user), _NORMS) for user in node.users)]


def _moments(module: nn.Module, paths: Sequence[str], batches: Sequence[Sequence[Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each channel that these layers make."""
    sums: dict[str, list[Any]] = {path: [0, 0.0, 0.0] for path in paths}

    def listener(path: str) -> Any:
        def listen(_: nn.Module, __: Any, output: Tensor) -> None:
            flat = output.transpose(0, 1).flatten(1).double()
            found = sums[path]
            found[0], found[1], found[2] = found[0] + flat.shape[1], found[1] + flat.sum(1), found[2] + flat.square().sum(1)

        return listen

    hooks = [module.get_submodule(path).register_forward_hook(listener(path)) for path in paths]
    try:
        with torch.no_grad():
            for batch in batches:
                module.eval()(*batch)
    finally:
        for hook in hooks:
            hook.remove()
    means = {path: (total / count, squares / count) for path, (count, total, squares) in sums.items()}
    return {path: (mean, (square - mean.square()).clamp_min(0)) for path, (mean, square) in means.items()}


def _normed(layer: Any, mean: Tensor, variance: Tensor) -> Normed:
    """The layer with filters of one length, and the BatchNorm that makes up for it."""
    norm = _CONVS[type(layer)](layer.out_channels)
    length = layer.weight.detach().double().flatten(1).norm(dim=1)
    scale = torch.where(length > 0, _LENGTH / length.clamp_min(1e-30), torch.ones_like(length))
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias.detach().double()
    with torch.no_grad():
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.dim() - 1)).to(layer.weight.dtype))
        norm.running_mean.copy_((mean - bias) * scale)
        norm.running_var.copy_(variance * scale.square())
        norm.weight.copy_((variance * scale.square() + norm.eps).sqrt() / scale)
        norm.bias.copy_(mean)
    layer.bias = None
    return Normed(layer, norm.eval())


def _merged(layer: Any, norm: Any) -> nn.Module:
    with torch.no_grad():
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        bias = norm.bias.double() - norm.running_mean.double() * scale
        layer.weight.copy_(weight)
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype))
    merged: nn.Module = layer
    return merged


def _replace(module: nn.Module, path: str, part: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, part)
