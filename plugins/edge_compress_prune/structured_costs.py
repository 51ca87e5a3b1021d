"""What each layer of a module costs and which groups its channels belong to: measured by one run on real samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.training import outputs_of
from edge_compress_prune.structured_budget import Layer
from edge_compress_prune.structured_groups import ROOTS, Group, rows_of


def layers_of(module: nn.Module, groups: Sequence[Group], inputs: Sequence[Tensor], measure: str) -> list[Layer]:
    """Every convolution and linear layer. ``measure``: macs (of one sample) or weights; or channels, one layer for each group."""
    if measure == "channels":
        return [Layer(float(item.channels), {}, {item.name: 1.0}) for item in groups]
    costs = costs_of(module, inputs, measure)
    return [_layer(path, cost, module.get_submodule(path), groups) for path, cost in costs.items()]


def costs_of(module: nn.Module, inputs: Sequence[Tensor], measure: str) -> dict[str, float]:
    """Cost by path of each convolution and linear layer that runs; one that runs twice costs its arithmetic twice."""
    costs: dict[str, float] = {}
    samples = len(inputs[0])

    def listener(path: str) -> Any:
        def listen(layer: Any, _: Any, output: Tensor) -> None:
            weights = float(layer.weight.numel())
            again = costs.get(path, 0.0) if measure == "macs" else 0.0
            costs[path] = again + weights * (output.numel() / samples / len(rows_of(layer)) if measure == "macs" else 1.0)

        return listen

    layers = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, ROOTS)]
    hooks = [layer.register_forward_hook(listener(path)) for path, layer in layers]
    try:
        with torch.no_grad():
            outputs_of(module.eval(), inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return costs


def _layer(path: str, cost: float, layer: Any, groups: Sequence[Group]) -> Layer:
    reads: dict[str, float] = {}
    makes: dict[str, float] = {}
    for group in groups:
        for part in group.parts:
            if part.path == path:
                side, width = (reads, _width_read(layer)) if part.reads else (makes, len(rows_of(layer)))
                side[group.name] = len(part.places) / width
    return Layer(cost, reads, makes)


def _width_read(layer: Any) -> int:
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)
