"""What is remembered of an activation while calibration data streams by, and which range it is given from that.

Memory is a minimum, a maximum and a histogram a tensor, however much data there is. A new way of choosing is one more function in
CHOOSERS. Leaves running the model to ``calibrate`` and integers to ``grid``.

Sources: percentile: McKinstry et al. 2018 (arXiv:1809.04191) and Wu et al. 2020 (arXiv:2004.09602), section 3.2; mean squared
error: Banner et al. 2019 (arXiv:1810.05723), here by search over the histogram instead of a fitted distribution; entropy: Migacz
2017, "8-bit Inference with TensorRT" (GTC), the bound with the least Kullback-Leibler divergence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BINS = 2048
_BOUND_STEP = 16
"""bins between the bounds that entropy compares"""
_RARE = 1e-9
"""probability of what a quantised distribution leaves out"""
_SAMPLED = 1 << 17
"""values of one tensor of one batch that enter the histogram; minimum and maximum see all of them"""


@dataclass(frozen=True)
class RangeSettings:
    """How ranges are chosen."""

    calibration: str = "minmax"
    percentile: float = 99.99
    levels: int = 256
    histogram: bool = True
    """whether the chooser looks at more than minimum and maximum"""


class Statistics:
    """Running minimum, maximum and histogram of one tensor."""

    def __init__(self, *, histogram: bool = True) -> None:
        self.low = self.high = 0.0
        self.seen = 0
        self.zeros = 0
        """how many of the counted values were exactly zero"""
        self._edges = (0.0, 0.0)
        self._counts: Array | None = np.zeros(BINS, np.int64) if histogram else None

    def add(self, values: Array) -> None:
        """Take in one batch of values. Raises ValueError when one is not finite."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("takes values that are not finite")
        self.low, self.high = (min(self.low, low), max(self.high, high)) if self.seen else (low, high)
        self.seen += values.size
        if self._counts is not None and self.high > self.low:
            self._count(values)

    def histogram(self) -> tuple[Array, Array]:
        """Bin centres, shape (BINS,), and counts. All zero counts when every value was the same."""
        low, high = self._edges
        width = (high - low) / BINS
        counts = self._counts if self._counts is not None else np.zeros(BINS, np.int64)
        return low + width * (np.arange(BINS) + 0.5), counts

    def _count(self, values: Array) -> None:
        assert self._counts is not None
        if self._edges != (self.low, self.high):
            self._widen()
        flat = values.reshape(-1)
        # An odd stride, so that it never keeps step with the usual even row and channel lengths.
        stride = max(1, flat.size // _SAMPLED) | 1
        counted = flat[::stride]
        self._counts += np.bincount(self._bin_of(counted), minlength=BINS)
        self.zeros += int(counted.size - np.count_nonzero(counted))

    def _widen(self) -> None:
        centres, old = self.histogram()
        had_range = self._edges[1] > self._edges[0]
        self._edges = (self.low, self.high)
        if had_range:
            self._counts = np.bincount(self._bin_of(centres), weights=old, minlength=BINS).astype(np.int64)

    def _bin_of(self, values: Array) -> Array:
        low, high = self._edges
        bins = ((values.astype(np.float64) - low) * (BINS / (high - low))).astype(np.int64)
        return np.clip(bins, 0, BINS - 1)


def choose(statistics: Statistics, settings: RangeSettings) -> tuple[float, float]:
    """The range [low, high] that is worth integers; zero is inside."""
    low, high = CHOOSERS[settings.calibration](statistics, settings)
    return min(low, 0.0), max(high, 0.0)


def _minmax(statistics: Statistics, settings: RangeSettings) -> tuple[float, float]:
    return statistics.low, statistics.high


def _percentile(statistics: Statistics, settings: RangeSettings) -> tuple[float, float]:
    """Leave out (100 - percentile) % of the values at each end."""
    centres, counts = statistics.histogram()
    total = int(counts.sum())
    if total == 0:
        return statistics.low, statistics.high
    share = np.cumsum(counts) / total
    tail = 1.0 - settings.percentile / 100.0
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1.0 - tail, side="left"))
    return _within(statistics, centres, first, last)


def _mse(statistics: Statistics, settings: RangeSettings) -> tuple[float, float]:
    """The range with the least squared error over the histogram: what is cut off against what is rounded finer."""
    centres, counts = statistics.histogram()
    if counts.sum() == 0:
        return statistics.low, statistics.high
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    for _ in range(2):
        high = min(_shrunken(high), key=lambda top: _squared_error(centres, counts, low, top, settings.levels))
        low = min(_shrunken(low), key=lambda bottom: _squared_error(centres, counts, bottom, high, settings.levels))
    return low, high


def _entropy(statistics: Statistics, settings: RangeSettings) -> tuple[float, float]:
    """The common bound of both ends at which rounding loses the least information about how values are distributed."""
    centres, counts = statistics.histogram()
    largest = max(-statistics.low, statistics.high)
    if counts.sum() == 0 or largest == 0:
        return statistics.low, statistics.high
    left = counts.copy()
    middle = int(np.argmin(np.abs(centres)))
    left[middle] = max(0, left[middle] - statistics.zeros)  # exact zeros are on every grid and would outweigh all else
    bins = np.minimum((np.abs(centres) / largest * BINS).astype(np.int64), BINS - 1)
    sizes = np.bincount(bins, weights=left, minlength=BINS)
    levels = settings.levels if min(-statistics.low, statistics.high) <= 0 else settings.levels // 2
    bounds = range(levels, BINS + 1, _BOUND_STEP)
    bound = min(reversed(bounds), key=lambda count: _divergence(sizes, count, levels)) / BINS * largest
    return max(statistics.low, -bound), min(statistics.high, bound)


def _divergence(sizes: Array, kept: int, levels: int) -> float:
    """Kullback-Leibler divergence of the first ``kept`` bins, with all beyond them in the last, from what ``levels`` leave."""
    wanted = sizes[:kept].astype(np.float64)
    present = wanted > 0
    owner = np.arange(kept) * levels // kept
    shares = np.bincount(owner, weights=present, minlength=levels)
    means = np.bincount(owner, weights=wanted, minlength=levels) / np.maximum(shares, 1)
    made = np.where(present, means[owner], 0.0)
    wanted[-1] += sizes[kept:].sum()
    total, rest = wanted.sum(), made.sum()
    if total == 0 or rest == 0:
        return float("inf")
    wanted, made = wanted / total, np.maximum(made / rest, _RARE)
    return float(np.sum(wanted[wanted > 0] * np.log(wanted[wanted > 0] / made[wanted > 0])))


def _shrunken(end: float) -> list[float]:
    """Candidates for one end of a range, the widest first, so that a tie keeps more."""
    return [float(end * part) for part in np.linspace(1.0, 0.2, 81)] if end else [0.0]


def _squared_error(centres: Array, counts: Array, low: float, high: float, levels: int) -> float:
    step = (high - low) / (levels - 1)
    if step == 0:
        return float(np.dot(centres**2, counts))
    rounded = np.clip(np.rint(centres / step) * step, low, high)
    inside = (centres >= low) & (centres <= high)
    # A bin is about as wide as a few steps or less, so its centre alone says little of rounding: step^2 / 12 is the mean.
    error = np.where(inside, step * step / 12, (centres - rounded) ** 2)
    return float(np.dot(error, counts))


def _within(statistics: Statistics, centres: Array, first: int, last: int) -> tuple[float, float]:
    low = statistics.low if first == 0 else float(centres[first])
    high = statistics.high if last >= BINS - 1 else float(centres[last])
    return (low, high) if high > low else (statistics.low, statistics.high)


CHOOSERS: dict[str, Callable[[Statistics, RangeSettings], tuple[float, float]]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
