"""Before channels go, what reads them learns to read what they said from the channels that stay: least squares, no training.

Source: the reconstruction step of He et al. 2017 (arXiv:1707.06168), with one factor for each pair of channels instead of one
for each place of the kernel, so that first and second moments of the channels are all it needs. What the channels that go were on
the mean is added to the reader's offset, where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.training import outputs_of
from edge_compress_prune.structured_groups import Group, Part, columns_of, offset_of

_RIDGE = 1e-3
"""added to the second moments, as a share of their mean, so that channels that say the same do not make factors explode"""
_PLACES = 16
"""places of a map that say something of their own, at most: neighbours say nearly the same"""


@dataclass(frozen=True)
class Moments:
    """Of what a layer reads of a group: ``mean`` (channels,), ``product`` (channels, channels) the mean product of two channels,
    and how many ``rows`` say something of their own."""

    mean: Tensor
    product: Tensor
    rows: float


class Repair:
    """What the channels of some groups say to their readers, gathered once; good until the module changes."""

    def __init__(self, module: nn.Module, groups: Sequence[Group], batches: Sequence[Sequence[Tensor]]) -> None:
        self._module = module
        pairs = [(group, part) for group in groups for part in group.readers]
        found = _moments(module, pairs, batches)
        self._moments = {(group.name, part.path): found[number] for number, (group, part) in enumerate(pairs)}

    def of(self, copied: nn.Module) -> Repair:
        """The same for an exact copy of the module."""
        other = object.__new__(Repair)
        other._module, other._moments = copied, self._moments
        return other

    def compensate(self, group: Group, gone: Sequence[int]) -> None:
        """Change what reads the channels that will go, in place. The channels themselves stay until they are cut."""
        cut = np.asarray(gone, np.int64)
        kept = np.setdiff1d(np.arange(group.channels), cut)
        for part in group.readers if len(cut) and len(kept) else ():
            offset = offset_of(self._module, part.path)
            factors, left = _factors(self._moments[group.name, part.path], cut, kept, centred=offset is not None)
            layer, places = self._module.get_submodule(part.path), _places(part, group.channels)
            if offset is not None:
                _shift(layer, places[cut], left, *offset)
            _spread(layer, places, cut, kept, factors)


def _moments(module: nn.Module, pairs: Sequence[tuple[Group, Part]], batches: Sequence[Sequence[Tensor]]) -> list[Moments]:
    """Of each reader."""
    sums = [[torch.zeros(group.channels, dtype=torch.float64), torch.zeros(group.channels, group.channels, dtype=torch.float64)]
            for group, _ in pairs]  # fmt: skip
    counts, rows_seen = [0] * len(pairs), [0.0] * len(pairs)

    def listener(number: int, group: Group, part: Part) -> Any:
        places = torch.from_numpy(_places(part, group.channels))

        def listen(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            axis = inputs[0].dim() - 1 if isinstance(layer, nn.Linear) else 1
            rows = inputs[0].movedim(axis, 0).flatten(1)[places].flatten(1).double()
            sums[number][0] += rows.sum(1)
            sums[number][1] += rows @ rows.T
            counts[number] += rows.shape[1]
            rows_seen[number] += min(rows.shape[1], len(inputs[0]) * _PLACES)

        return listen

    hooks = [
        module.get_submodule(part.path).register_forward_pre_hook(listener(number, group, part))
        for number, (group, part) in enumerate(pairs)
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                outputs_of(module.eval(), batch)
    finally:
        for hook in hooks:
            hook.remove()
    means = [(mean / max(count, 1), product / max(count, 1)) for (mean, product), count in zip(sums, counts, strict=True)]
    return [Moments(mean, product, rows) for (mean, product), rows in zip(means, rows_seen, strict=True)]


def _places(part: Part, channels: int) -> np.ndarray[Any, Any]:
    """(channels, places of each): where the layer reads each channel of the group."""
    order = np.lexsort((part.places, part.roots))
    return part.places[order].reshape(channels, -1)


def _factors(moments: Moments, cut: np.ndarray[Any, Any], kept: np.ndarray[Any, Any], *, centred: bool) -> tuple[Tensor, Tensor]:
    """(cut, kept): each channel that goes as a sum of those that stay; (cut,): what that misses on the mean.

    Few rows say little of many channels, so that the ridge grows with the channels for each row.
    """
    product = moments.product - torch.outer(moments.mean, moments.mean) if centred else moments.product
    among = product[kept][:, kept]
    ridge = (_RIDGE + len(kept) / max(moments.rows, 1.0)) * float(among.diagonal().mean()) + 1e-12
    factors = torch.linalg.solve(among + ridge * torch.eye(len(kept), dtype=among.dtype), product[kept][:, cut]).T
    return factors, moments.mean[cut] - factors @ moments.mean[kept]


def _shift(layer: nn.Module, places: np.ndarray[Any, Any], left: Tensor, offset: Tensor, sign: float) -> None:
    """Add what the channels at ``places`` (cut, places of each) say on the mean to what the layer adds to each channel."""
    with torch.no_grad():
        said = torch.zeros(offset.shape, dtype=torch.float64)
        for place in range(places.shape[1]):
            columns = columns_of(layer)[torch.from_numpy(places[:, place])].double()
            said += torch.tensordot(left, columns.flatten(2).sum(2) if columns.dim() > 2 else columns, dims=1)
        offset += sign * said.to(offset.dtype)


def _spread(
    layer: nn.Module, places: np.ndarray[Any, Any], cut: np.ndarray[Any, Any], kept: np.ndarray[Any, Any], factors: Tensor
) -> None:
    with torch.no_grad():
        columns = columns_of(layer)
        for place in range(places.shape[1]):
            lost = columns[places[cut, place]].double()
            gained = torch.tensordot(factors.T, lost, dims=1).to(columns.dtype)
            columns.index_add_(0, torch.from_numpy(places[kept, place]), gained)
