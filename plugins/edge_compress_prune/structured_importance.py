"""How much each channel of a group counts, and how much the model minds when the group alone is thinned.

Magnitudes: Li et al. 2017 (arXiv:1608.08710); scales of BatchNorm: Liu et al. 2017 (arXiv:1708.06519); first-order Taylor:
Molchanov et al. 2019 (arXiv:1906.10771), with labels drawn from the model's own answers, which makes it the Fisher pruning of
Theis et al. 2018 (arXiv:1801.05787). What is cut is left to ``structured_budget``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.answers import Answer, difference
from edge_compress.graph.bridge.training import outputs_of
from edge_compress_prune.structured_groups import ROOTS, Group, Part, Silence, columns_of, rows_of
from edge_compress_prune.structured_repair import Repair

Array = np.ndarray[Any, Any]
_PROBED = 0.5
"""share of a group's channels that is silenced to measure how much the model minds"""


def importances(
    module: nn.Module,
    groups: Sequence[Group],
    batches: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    how: str,
    seed: int,
    repair: Repair,
) -> dict[str, Array]:
    """By group name, one number a channel, in units of how far the answers move when the group's weaker half is silenced
    and what reads it is repaired.

    ``how``: l1, l2, bn_scale, taylor or activation.
    """
    if how in ("taylor", "activation"):
        raw = _from_activity(module, groups, batches, answers, how, seed)
    else:
        raw = {group.name: _from_weights(module, group, how) for group in groups}
    minded = sensitivities(module, groups, raw, batches, answers, repair)
    return {group.name: _scaled(raw[group.name], minded[group.name]) for group in groups}


def sensitivities(
    module: nn.Module,
    groups: Sequence[Group],
    importance: Mapping[str, Array],
    batches: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    repair: Repair,
) -> dict[str, float]:
    """How far the answers move (see ``Answer.difference``) when the less important half of one group alone is silenced."""
    with torch.no_grad():
        wanted = [outputs_of(module.eval(), batch) for batch in batches]
        found = {}
        for group in groups:
            weaker = _weaker(importance[group.name])
            with Silence(module, group, weaker, partial(repair.compensate, group, weaker)):
                made = [outputs_of(module, batch) for batch in batches]
            moved = [float(difference(answers, ours, theirs)) for ours, theirs in zip(made, wanted, strict=True)]
            found[group.name] = sum(moved) / len(moved)
    return found


def _weaker(importance: Array) -> list[int]:
    count = max(1, round(_PROBED * len(importance)))
    return [int(channel) for channel in np.argsort(importance, kind="stable")[:count]]


def _scaled(importance: Array, minded: float) -> Array:
    """So that the channels that were silenced add up to what silencing them did."""
    total = float(importance[_weaker(importance)].sum())
    return (
        importance * (max(minded, 1e-9) / total) if total > 0 else np.full(len(importance), max(minded, 1e-9) / len(importance))
    )


def _from_weights(module: nn.Module, group: Group, how: str) -> Array:
    """From the norms of what makes and reads each channel, or from the scales of the BatchNorm layers in between."""
    if how == "bn_scale":
        norms = [part for part in group.parts if isinstance(module.get_submodule(part.path), nn.modules.batchnorm._BatchNorm)]
        if norms:
            return _sum([_by_root(part, _scale(module.get_submodule(part.path)), group.channels) for part in norms])
        how = "l2"
    layers = [(part, module.get_submodule(part.path)) for part in group.parts]
    found = [_by_root(part, _norms(layer, part, how), group.channels) for part, layer in layers if isinstance(layer, ROOTS)]
    total = _sum(found)
    return np.sqrt(total) if how == "l2" else total


def _scale(layer: Any) -> Array:
    return np.asarray(layer.weight.detach().abs().numpy(), np.float64)


def _norms(layer: Any, part: Part, how: str) -> Array:
    """Of each channel of a layer: the sum of magnitudes, or of squares, as a share of the layer's mean."""
    view = columns_of(layer) if part.reads else rows_of(layer)
    flat = view.detach().flatten(1).double().abs()
    sums = (flat if how == "l1" else flat.square()).sum(1).numpy()
    return np.asarray(sums / max(float(sums.mean()), 1e-30))


def _by_root(part: Part, values: Array, channels: int) -> Array:
    """Values by position of a layer -> their sums by channel of the group."""
    return np.bincount(part.roots, weights=values[part.places], minlength=channels)


def _sum(rows: Sequence[Array]) -> Array:
    return np.sum(np.stack(rows), axis=0)


def _from_activity(
    module: nn.Module,
    groups: Sequence[Group],
    batches: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    how: str,
    seed: int,
) -> dict[str, Array]:
    """activation: the mean magnitude. taylor: the mean square, over samples, of how the loss changes when a channel goes."""
    random = torch.Generator().manual_seed(seed)
    totals = {group.name: np.zeros(group.channels) for group in groups}
    paths = {part.path for group in groups for part in group.readers}
    for batch in batches:
        effects = _effects(module, paths, batch, answers, how, random)
        for group in groups:
            rows = [_gathered(part, effects[part.path], group.channels) for part in group.readers]
            found = np.sum(rows, axis=0)
            totals[group.name] += (found**2 if how == "taylor" else found).sum(0)
    return totals


def _gathered(part: Part, effects: Array, channels: int) -> Array:
    """(samples, positions of the layer) -> (samples, channels of the group)."""
    return np.stack([np.bincount(part.roots, weights=row[part.places], minlength=channels) for row in effects])


def _effects(
    module: nn.Module,
    paths: set[str],
    batch: Sequence[Tensor],
    answers: Sequence[Answer],
    how: str,
    random: torch.Generator,
) -> dict[str, Array]:
    """By layer, (samples, channels read): the magnitude of what is read, or how the loss changes in proportion to it."""
    read: dict[str, Tensor] = {}
    hooks = [module.get_submodule(path).register_forward_pre_hook(_listener(path, read)) for path in sorted(paths)]
    try:
        with torch.enable_grad():
            outputs = outputs_of(module.eval(), batch)
        grads = dict.fromkeys(read, None)
        if how == "taylor":
            loss = drawn_loss(outputs, answers, random)
            grads = dict(zip(read, torch.autograd.grad(loss, list(read.values()), allow_unused=True), strict=True))
    finally:
        for hook in hooks:
            hook.remove()
    return {path: _summed(module.get_submodule(path), tensor, grads[path], how) for path, tensor in read.items()}


def _listener(path: str, read: dict[str, Tensor]) -> Any:
    def listen(_: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        tensor = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()
        read[path] = tensor
        return (tensor, *inputs[1:])

    return listen


def _summed(layer: nn.Module, tensor: Tensor, grad: Tensor | None, how: str) -> Array:
    value = tensor.detach().abs() if how == "activation" else tensor.detach() * (0.0 if grad is None else grad)
    axis = value.dim() - 1 if isinstance(layer, nn.Linear) else 1
    places = value.movedim(axis, 1).flatten(2) if value.dim() > 2 else value[:, :, None]
    summed = places.mean(2) if how == "activation" else places.sum(2)
    return np.asarray(summed.double().numpy())


def drawn_loss(outputs: Sequence[Tensor], answers: Sequence[Answer], random: torch.Generator) -> Tensor:
    """A loss whose gradients have the Fisher information as their mean square: each sample against a draw from its own answer."""
    parts = []
    for item in answers:
        output = outputs[item.index]
        if item.kind == "values":
            noise = torch.randn(output.shape, generator=random) / item.spread**0.5
            parts.append((output * noise).sum())
            continue
        chances = item.logits(output).reshape(-1, output.shape[-1]).log_softmax(-1)
        drawn = torch.multinomial(chances.detach().exp(), 1, generator=random)
        parts.append(-chances.gather(1, drawn).sum())
    return torch.stack(parts).sum()
