"""Keeps the scales of an earlier artifact in a new assembly, where they fit as well as new ones: updates are small then.

Devices get differences to what they run. Where a scale moves a little, nearly every integer beside it changes with it; where it
stays, only what was really changed does. Where grids are found is left to ``earlier``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_compress_quantize.assembly import Assembly
from edge_compress_quantize.earlier import FED, Place, laid_beside
from edge_compress_quantize.grid import Grid
from edge_compress_quantize.kernels import Kernel, WeightKey
from edge_compress_quantize.placement import Placement
from edge_compress_quantize.rules import Role, operands

Array = np.ndarray[Any, Any]

_HAIR = 0.02
"""share of a range that may be cut off"""
_WASTE = 0.25
"""share of a kept range that may lie idle"""


@dataclass(frozen=True)
class Room:
    """How far an earlier scale of weights may be from the new one, as multiples of that."""

    least: float
    most: float


WHOLE_RANGE = Room(1 - _HAIR, 1 / (1 - _WASTE))
"""where the largest weight decides the scale"""
FEW_BITS = Room(0.9, 1 / (1 - _WASTE))
"""where it is a compromise between what is cut off and what is rounded"""
SPENT = Room(0.5, 2.0)
"""where it was chosen for what it costs on the wire"""


@dataclass(frozen=True)
class Kept:
    """How many grids stayed: of activations, and of the channels of weights."""

    activations: int
    of_activations: int
    channels: int
    of_channels: int

    def told(self, artifact: str) -> str:
        """In words."""
        scales = f"{self.activations} of {self.of_activations} activations and {self.channels} of {self.of_channels} channels"
        return f"the scales of {scales} of weights are those of artifact {artifact[:12]}"


def keep(assembly: Assembly, earlier: Sequence[Place], room: Room, hold: float) -> Kept:
    """Give ``assembly`` the earlier grids that fit it, and of weights on them the earlier integers unless others are nearer by
    more than ``hold`` steps."""
    placed = assembly.placed()
    grids = assembly.grids(placed)
    kernels = assembly.kernels_for(placed, grids)
    mine = list(_owned(assembly, placed, grids, kernels))
    pairs = zip(mine, laid_beside([place for place, _ in mine], earlier), strict=True)
    found = {owner: old for (_, owner), old in pairs if old is not None}
    activations = _keep_activations(assembly, placed, grids, found)
    channels = _keep_weights(assembly, placed, found, room, hold)
    return Kept(activations, len(grids), channels, sum(kernel.grid.scale.size for kernel in kernels.values()))


def _owned(
    assembly: Assembly, placed: Placement, grids: Mapping[str, Grid], kernels: Mapping[WeightKey, Kernel]
) -> Iterator[tuple[Place, str | WeightKey]]:
    """The places of the model that an assembly builds, as ``qdq`` writes them, each with its root or its weights."""
    wiring = assembly.wiring
    seen: set[WeightKey] = set()
    for name in wiring.inputs:
        if name in placed.wanted:
            yield _place(FED, grids[placed.root[name]]), placed.root[name]
    for node in wiring.graph.node:
        kind = placed.roles.get(node.output[0])
        found = operands(node, wiring) if kind is Role.MULTIPLY else None
        if found is not None and (key := (node.input[1], found.axis)) not in seen:
            seen.add(key)
            yield _place(node.op_type, kernels[key].grid, weights=True), key
        for name in node.output if kind is not Role.MOVE else ():
            if name in placed.root:
                yield _place(node.op_type, grids[placed.root[name]]), placed.root[name]


def _place(op: str, grid: Grid, *, weights: bool = False) -> Place:
    return Place(op, weights, grid.scale, grid.zero_point)


def _keep_activations(
    assembly: Assembly, placed: Placement, grids: Mapping[str, Grid], found: Mapping[str | WeightKey, Place]
) -> int:
    count = 0
    for root, seen in placed.observe.items():
        old = found.get(root)
        if old is not None and _fits(grids[root], old, assembly.range_of(seen)):
            assembly.kept[seen] = replace(grids[root], scale=old.scale, zero_point=old.zero_point)
            count += 1
    return count


def _fits(new: Grid, old: Place, wanted: tuple[float, float]) -> bool:
    """Whether an earlier grid covers a range but for a hair, and leaves not much of itself idle."""
    if old.zero_point.dtype != new.zero_point.dtype or old.scale.shape != new.scale.shape:
        return False
    low, high = ((edge - int(old.zero_point)) * float(old.scale) for edge in (new.low, new.high))
    hair = _HAIR * (wanted[1] - wanted[0])
    return low <= wanted[0] + hair and wanted[1] - hair <= high and float(new.scale) >= (1 - _WASTE) * float(old.scale)


def _keep_weights(assembly: Assembly, placed: Placement, found: Mapping[str | WeightKey, Place], room: Room, hold: float) -> int:
    count = 0
    weights = {layer.weight: layer.found.weights for layer in assembly.layers}
    for key, kernel in assembly.kernels_for(placed, assembly.grids(placed)).items():
        grid = kernel.grid
        old = found[key].over(grid.scale.size) if key in found else None
        if old is None or old.scale.shape != grid.scale.shape or not np.array_equal(old.zero_point, grid.zero_point):
            continue
        fits = (old.scale >= room.least * grid.scale) & (old.scale <= room.most * grid.scale)
        mixed = replace(grid, scale=np.asarray(np.where(fits, old.scale, grid.scale), np.float32))
        assembly.kernels[key] = Kernel(mixed, _near(old, mixed, weights[key], fits, hold))
        assembly.held[key] = hold
        count += int(fits.sum())
    return count


def _near(old: Place, grid: Grid, weights: Array, fits: Array, hold: float) -> Array:
    """The earlier integers where the weights did not move further from them, else the nearest ones."""
    nearest = grid.quantize(weights)
    before = _same_part(old.integers, weights.shape)
    if before is None or before.dtype != nearest.dtype:
        return nearest
    shape = () if grid.axis is None else tuple(-1 if axis == grid.axis else 1 for axis in range(weights.ndim))
    off = np.abs(grid.dequantize(before) - weights) / grid.scale.reshape(shape)
    allowed = (before >= grid.low) & (before <= grid.high) & fits.reshape(shape)
    return np.asarray(np.where(allowed & (off <= 0.5 + hold), before, nearest), nearest.dtype)


def _same_part(integers: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Stored integers without the channels of nothing that a target adds to inputs; None: they are of another layer."""
    if integers is None or integers.ndim != len(shape) or any(np.less(integers.shape, shape)):
        return None
    return integers[tuple(slice(length) for length in shape)]
