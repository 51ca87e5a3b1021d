"""Integers for a layer's weights that disturb its output least, instead of the nearest ones.

An error e in a row of weights adds e H e^T to the output's mean squared error, H being the second moment of what the row
multiplies. Integers are improved one column after the other: each takes the integer that is best given all others, so errors
make up for each other and the total only falls; then the scales are refitted and it is done again.

Sources: the objective: Nagel et al. 2020 (AdaRound, arXiv:2004.10568), equation 8, and Frantar et al. 2022 (GPTQ,
arXiv:2210.17323); cyclic descent over columns: Behdin et al. 2023 (QuantEase, arXiv:2309.01885). It needs no gradients and no
training, which takes minutes where this takes seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edge_compress_quantize.grid import Grid

Array = np.ndarray[Any, Any]

_SWEEPS = 4
_REFITS = 3
_BLOCK = 64
"""columns whose effect on later ones is added up before it is passed on"""
_DAMPING = 0.01
"""of the mean diagonal, added to it: directions that the samples did not show are not free"""


def compensated(
    weights: Array, grid: Grid, second: Array, least: Array | None = None, *, together: bool = False
) -> tuple[Array, Grid]:
    """Integers of ``weights`` (groups, channels, K) and the grid with refitted scales, one a channel or one for all.

    ``grid`` has the scales to start from, ``second`` (groups, K, K) the second moment, ``least`` the smallest scales allowed.
    ``together``: all scales of a tensor change by one factor, so that equal ones stay equal.
    """
    weights = weights.astype(np.float64)
    damped = _damped(second)
    zero = int(grid.zero_point.flat[0])
    low, high = grid.low - zero, grid.high - zero
    scale = _scales(grid, weights.shape)
    steps = np.clip(np.rint(weights / scale), low, high)
    for _ in range(_REFITS):
        steps = _descended(weights, steps, scale, damped, (low, high))
        grid = _rescaled(grid, weights, steps * scale, damped) if together else _refitted(grid, weights, steps, damped, least)
        scale = _scales(grid, weights.shape)
    steps = _descended(weights, steps, scale, damped, (low, high))
    return (steps + zero).astype(grid.zero_point.dtype), grid


def held(weights: Array, grid: Grid, second: Array, start: Array, hold: float) -> Array:
    """Integers that go on from ``start``, those of an earlier version on the same grid: one moves only where another is better
    by ``hold`` steps more than it need be."""
    weights, zero = weights.astype(np.float64), int(grid.zero_point.flat[0])
    limits, steps = (grid.low - zero, grid.high - zero), start.astype(np.float64) - zero
    made = _descended(weights, steps, _scales(grid, weights.shape), _damped(second), limits, hold)
    return np.asarray(made + zero, grid.zero_point.dtype)


def _descended(weights: Array, steps: Array, scale: Array, second: Array, limits: tuple[int, int], hold: float = 0.0) -> Array:
    """Integers after a few rounds of improving every column in turn. ``hold``: steps by which the best place must be further from
    an integer than from its neighbour's border."""
    steps = steps.copy()
    pull = np.matmul(weights - steps * scale, second)
    for _ in range(_SWEEPS):
        before = steps.copy()
        for start in range(0, weights.shape[2], _BLOCK):
            block = slice(start, min(start + _BLOCK, weights.shape[2]))
            change = _improve(steps[:, :, block], pull[:, :, block], scale, second[:, block, block], limits, hold)
            pull += np.matmul(change, second[:, block, :])
        if np.array_equal(before, steps):
            break
    return steps


def _improve(steps: Array, pull: Array, scale: Array, second: Array, limits: tuple[int, int], hold: float) -> Array:
    """Set each column of one block to its best integers, in place; returns the change of the errors."""
    pull = pull.copy()
    change = np.zeros_like(pull)
    width = scale[:, :, 0]
    for column in range(steps.shape[2]):
        curve = second[:, column, column][:, None]
        away = pull[:, :, column] / (curve * width)
        best = np.clip(np.rint(steps[:, :, column] + np.where(np.abs(away) > 0.5 + hold, away, 0.0)), *limits)
        moved = (steps[:, :, column] - best) * width
        steps[:, :, column] = best
        change[:, :, column] = moved
        pull += moved[:, :, None] * second[:, column, :][:, None, :]
    return change


def _damped(second: Array) -> Array:
    diagonal = np.einsum("gkk->gk", second)
    extra = _DAMPING * diagonal.mean(axis=1) + 1e-12
    return np.asarray(second + extra[:, None, None] * np.eye(second.shape[1]))


def _refitted(grid: Grid, weights: Array, steps: Array, second: Array, least: Array | None) -> Grid:
    """The scales with the least error for given integers, by least squares; none where a channel is all zero."""
    spread = np.matmul(steps, second)
    along, size = np.einsum("grk,grk->gr", spread, weights).reshape(-1), np.einsum("grk,grk->gr", spread, steps).reshape(-1)
    if grid.axis is None:
        along, size = along.sum(), size.sum()
    old = grid.scale.astype(np.float64)
    scale = np.divide(along, size, out=old.copy(), where=size > 0)
    scale = np.where(scale > 0, scale, old)
    if least is not None:
        scale = np.maximum(scale, least.max() if grid.axis is None else least)
    return replace(grid, scale=np.asarray(scale, np.float32))


def _rescaled(grid: Grid, weights: Array, values: Array, second: Array) -> Grid:
    """The one factor for all scales with the least error, for weights that stand for ``values``; 1 where that is nothing."""
    spread = np.matmul(values, second)
    along, size = float((spread * weights).sum()), float((spread * values).sum())
    factor = along / size if size > 0 and along > 0 else 1.0
    return replace(grid, scale=np.asarray(grid.scale * np.float32(factor), np.float32))


def _scales(grid: Grid, shape: tuple[int, ...]) -> Array:
    """Scales as (groups, channels, 1)."""
    scale = grid.scale.astype(np.float64)
    return np.broadcast_to(scale.reshape(-1) if grid.axis is not None else scale, (shape[0] * shape[1],)).reshape(*shape[:2], 1)
