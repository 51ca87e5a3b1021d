"""Quantiles of counts in buckets, and what is usual among them. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Seconds below which ``share`` of the inferences stay, interpolated within its bucket as Prometheus does; None without
    any. Those beyond the last bound count as the last bound."""
    total = sum(counts)
    if total == 0 or not bounds:
        return None
    rank, below = share * total, 0
    for low, high, count in zip((0.0, *bounds), bounds, counts, strict=False):
        if count and below + count >= rank:
            return low + (high - low) * (rank - below) / count
        below += count
    return bounds[-1]


def usual(bounds: Sequence[float], counts: Sequence[float], total: float) -> float | None:
    """The mean of what lies around the median, from the sum of all: finer than the buckets, and not moved by a few that take many
    times as long. None without any."""
    place = _bucket(counts, 0.5)
    if place is None or not bounds:
        return None
    edges = (0.0, *bounds, bounds[-1])
    near = range(max(0, place - 1), min(len(counts), place + 2))
    far = sum(count * (edges[at] + edges[at + 1]) / 2 for at, count in enumerate(counts) if at not in near)
    mean = (total - far) / sum(counts[at] for at in near)
    return min(edges[near[-1] + 1], max(edges[near[0]], mean))


def within(bounds: Sequence[float], counts: Sequence[float], share: float, guess: float) -> float | None:
    """The value nearest to a guess that the quantile may have, for a bucket does not tell where in it. None without any."""
    place = _bucket(counts, share)
    if place is None or not bounds:
        return None
    edges = (0.0, *bounds, bounds[-1])
    return min(max(guess, edges[place]), max(edges[place + 1], edges[place]))


def _bucket(counts: Sequence[float], share: float) -> int | None:
    """The bucket that a quantile is in."""
    total = sum(counts)
    reached = itertools.accumulate(counts)
    return next((at for at, below in enumerate(reached) if below >= share * total), None) if total else None
