"""Quantiles of counts in buckets. Pure."""

from __future__ import annotations

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
