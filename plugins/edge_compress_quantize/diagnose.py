"""Says in words why a layer loses much in integers: which of its numbers do not fit their grid, and how.

Four effects, told apart by which error is largest, each as a share of what it disturbs: outliers (a range so wide that most
values fall on few steps), clipped activations (values beyond the range), tiny channels (weights smaller than a few steps of a
grid they share), saturation (pairs of products beyond 16 bits). From statistics alone; nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_compress_quantize.grid import Grid
from edge_compress_quantize.kernels import Kernel
from edge_compress_quantize.ranges import Statistics

Array = np.ndarray[Any, Any]

_FEW_STEPS = 4
_LARGEST_PAIR = 32767
_FAR = 40
"""times its typical value; Gaussian values reach 6 times theirs"""


@dataclass(frozen=True)
class Effect:
    """What disturbs a layer: the error as a share of the signal's power, and the words for it."""

    share: float
    words: str


def activation_effect(role: str, statistics: Statistics, grid: Grid) -> Effect:
    """The larger error of an activation: rounding, against its typical value, or clipping, against its power. ``role`` says
    whose it is ("its input")."""
    values, counts = statistics.histogram()
    low, high = (float(grid.dequantize(np.asarray(edge))) for edge in (grid.low, grid.high))
    beyond = np.maximum(values - high, 0) + np.maximum(low - values, 0)
    clipped = float(np.dot(beyond**2, counts)) / (float(np.dot(values**2, counts)) or 1.0)
    typical = _typical(statistics)
    rounded = float(grid.scale) ** 2 / 12 / typical**2
    if clipped > rounded:
        part = float(counts[beyond > 0].sum()) / max(1, int(counts.sum()))
        return Effect(clipped, f"clipped activations: {part:.2%} of {role} lies beyond [{low:.4g}, {high:.4g}]")
    largest = max(-statistics.low, statistics.high)
    kind = "outliers" if largest > _FAR * typical else "rounding"
    return Effect(rounded, f"{kind}: {role} reaches {largest:.4g} while half of it stays within {typical:.4g}")


def weight_effect(weights: Array, axis: int, kernel: Kernel) -> Effect:
    """The error of the integers of a weight tensor, averaged over the output channels."""
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.float64)
    errors = np.moveaxis(kernel.values, axis, 0).reshape(rows.shape) - rows
    power = np.square(rows).sum(axis=1)
    share = np.divide(np.square(errors).sum(axis=1), power, out=np.zeros_like(power), where=power > 0)
    largest = np.abs(rows).max(axis=1)
    tiny = int(((largest < _FEW_STEPS * kernel.grid.scale) & (largest > 0)).sum())
    mean = float(share.mean())
    if tiny and kernel.grid.axis is None:
        return Effect(mean, f"tiny channels: {tiny} of {len(rows)} have all weights below {_FEW_STEPS} steps of the common grid")
    peak = float((largest / np.sqrt(power / rows.shape[1] + 1e-30)).max())
    if peak > 16:
        return Effect(mean, f"outliers: a weight is {peak:.0f} times as large as is usual in its channel")
    return Effect(
        mean, f"few bits: its weights move by {mean**0.5:.1%} on a grid of {kernel.grid.high - kernel.grid.low + 1} steps"
    )


def saturation_effect(kernel: Kernel, grid: Grid, noise: float) -> Effect | None:
    """Pairs of u8 x s8 products beyond 16 bits, which processors without a dot product of int8 cut off. ``noise``: what was
    measured; None where no pair can be that large."""
    flat = np.abs(kernel.integers.astype(np.int64)).reshape(kernel.integers.shape[0], -1)
    pairs = np.sort(flat, axis=1)[:, -2:].sum(axis=1) if flat.shape[1] > 1 else flat[:, 0]
    if not (grid.zero_point.dtype == np.uint8 and (255 * pairs > _LARGEST_PAIR).any()):
        return None
    return Effect(noise, "saturation: pairs of its products exceed 16 bits on this processor; reduce_range avoids it")


def _typical(statistics: Statistics) -> float:
    """The median size of the values that are not zero."""
    values, counts = statistics.histogram()
    left = counts.copy()
    middle = int(np.argmin(np.abs(values)))
    left[middle] = max(0, left[middle] - statistics.zeros)
    order = np.argsort(np.abs(values))
    reached = np.cumsum(left[order])
    return float(np.abs(values[order[int(np.searchsorted(reached, reached[-1] / 2))]])) or 1.0
