"""Before channels go, what reads them learns to read what they said from the channels that stay: least squares, no training.

Source: the reconstruction step of He et al. 2017 (arXiv:1707.06168), with one factor for each pair of channels instead of one
for each place of the kernel, so that second moments of the channels are all it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.training import outputs_of
from edge_compress_prune.structured_groups import Group, Part, columns_of

_RIDGE = 1e-3
"""added to the second moments, as a share of their mean, so that channels that say the same do not make factors explode"""


class Repair:
    """What the channels of some groups say to their readers, gathered once; good until the module changes."""

    def __init__(self, module: nn.Module, groups: Sequence[Group], batches: Sequence[Sequence[Tensor]]) -> None:
        self._module = module
        pairs = [(group, part) for group in groups for part in group.readers]
        found = _second_moments(module, pairs, batches)
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
            factors = _factors(self._moments[group.name, part.path], cut, kept)
            _spread(self._module.get_submodule(part.path), _places(part, group.channels), cut, kept, factors)


def _second_moments(module: nn.Module, pairs: Sequence[tuple[Group, Part]], batches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """For each reader, (channels, channels): the mean product of what it reads of two channels of the group."""
    found = [torch.zeros(group.channels, group.channels, dtype=torch.float64) for group, _ in pairs]

    def listener(number: int, group: Group, part: Part) -> Any:
        places = torch.from_numpy(_places(part, group.channels))

        def listen(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            axis = inputs[0].dim() - 1 if isinstance(layer, nn.Linear) else 1
            rows = inputs[0].movedim(axis, 0).flatten(1)[places].flatten(1).double()
            found[number] += rows @ rows.T / rows.shape[1]

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
    return found


def _places(part: Part, channels: int) -> np.ndarray[Any, Any]:
    """(channels, places of each): where the layer reads each channel of the group."""
    order = np.lexsort((part.places, part.roots))
    return part.places[order].reshape(channels, -1)


def _factors(moments: Tensor, cut: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> Tensor:
    """(cut, kept): each channel that goes as a sum of those that stay."""
    among = moments[kept][:, kept]
    ridge = _RIDGE * float(among.diagonal().mean()) + 1e-12
    return torch.linalg.solve(among + ridge * torch.eye(len(kept), dtype=among.dtype), moments[kept][:, cut]).T


def _spread(
    layer: nn.Module, places: np.ndarray[Any, Any], cut: np.ndarray[Any, Any], kept: np.ndarray[Any, Any], factors: Tensor
) -> None:
    with torch.no_grad():
        columns = columns_of(layer)
        for place in range(places.shape[1]):
            lost = columns[places[cut, place]].double()
            gained = torch.tensordot(factors.T, lost, dims=1).to(columns.dtype)
            columns.index_add_(0, torch.from_numpy(places[kept, place]), gained)
