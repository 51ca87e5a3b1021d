"""What each weight of a layer is worth: larger counts for more. Leaves which of them go to ``unstructured_course``.

Magnitude: Han et al. 2015 (arXiv:1506.02626). Activation: Sun et al. 2023 (arXiv:2306.11695), magnitude times the length of the
input it multiplies. Gradient: Molchanov et al. 2019 (arXiv:1906.10771), the mean square of weight times gradient, with labels
drawn from the model's own answers. Weights are taken as they are behind the BatchNorm that ``bridge.norms`` put there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.answers import Answer
from edge_compress.graph.bridge.norms import Normed
from edge_compress.graph.bridge.training import outputs_of
from edge_compress_prune.structured_groups import TURNED
from edge_compress_prune.structured_importance import drawn_loss

Array = np.ndarray[Any, Any]


def worths(
    module: nn.Module,
    layers: Mapping[str, Any],
    batches: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    how: str,
    seed: int,
) -> dict[str, Array]:
    """By layer, an array of its weight's shape, float64. ``how``: magnitude, activation or gradient."""
    module.eval()
    if how == "gradient":
        return _gradients(module, layers, batches, answers, seed)
    sizes = {name: _size(module, name, layer) for name, layer in layers.items()}
    if how == "magnitude":
        return sizes
    lengths = _input_lengths(module, layers, batches)
    return {name: sizes[name] * _over_inputs(lengths[name], layer) for name, layer in layers.items()}


def _size(module: nn.Module, name: str, layer: Any) -> Array:
    """Magnitudes of the weights with the scale of a BatchNorm that will be merged into them."""
    size = weight_of(layer).detach().double().abs()
    around = module.get_submodule(name)
    if isinstance(around, Normed):
        norm: Any = around[1]
        scale = (norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()).abs()
        size = size * scale.detach().reshape(-1, *[1] * (size.dim() - 1))
    return np.asarray(size.numpy())


def _input_lengths(module: nn.Module, layers: Mapping[str, Any], batches: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
    """By layer, the Euclidean length of what comes in on each input channel, over all samples and places."""
    squares: dict[str, Any] = dict.fromkeys(layers, 0.0)

    def listener(name: str, axis: int) -> Any:
        def listen(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0].detach().double().movedim(axis if axis > 0 else inputs[0].dim() - 1, 0).flatten(1)
            squares[name] = squares[name] + rows.square().sum(1)

        return listen

    hooks = [
        layer.register_forward_pre_hook(listener(name, -1 if isinstance(layer, nn.Linear) else 1))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                outputs_of(module, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.as_tensor(value).sqrt() for name, value in squares.items()}


def _over_inputs(lengths: Tensor, layer: Any) -> Array:
    """One number an input channel -> an array that multiplies the layer's weight; grouped layers see only their own inputs."""
    shape, groups = layer.weight.shape, int(getattr(layer, "groups", 1))
    if lengths.dim() == 0:  # the layer was never reached
        return np.ones([1] * len(shape))
    rest = [1] * (len(shape) - 2)
    if isinstance(layer, TURNED):
        return np.asarray(lengths.reshape(-1, 1, *rest).numpy())
    per_group = lengths.reshape(groups, 1, -1).expand(groups, shape[0] // groups, -1)
    return np.asarray(per_group.reshape(shape[0], shape[1], *rest).numpy())


def _gradients(
    module: nn.Module, layers: Mapping[str, Any], batches: Sequence[Sequence[Tensor]], answers: Sequence[Answer], seed: int
) -> dict[str, Array]:
    random = torch.Generator().manual_seed(seed)
    found = {name: np.zeros(tuple(layer.weight.shape)) for name, layer in layers.items()}
    for batch in batches:
        weights = {name: _leaf(layer) for name, layer in layers.items()}
        with torch.enable_grad():
            loss = drawn_loss(outputs_of(module, batch), answers, random)
            grads = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for (name, weight), grad in zip(weights.items(), grads, strict=True):
            if grad is not None:
                found[name] += np.square((weight.detach().double() * grad.double()).numpy())
    return found


def weight_of(layer: Any) -> Tensor:
    """The weight as it is now: torch makes that of a masked layer anew at every call and keeps the last one in between."""
    weight: Tensor = layer.weight_orig * layer.weight_mask if hasattr(layer, "weight_mask") else layer.weight
    return weight


def _leaf(layer: Any) -> Tensor:
    """The parameter that the weight comes from: under a mask the weight itself is made anew at every call."""
    leaf: Tensor = getattr(layer, "weight_orig", layer.weight)
    return leaf.requires_grad_()
