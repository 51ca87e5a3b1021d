"""k-means in one dimension: the few values that stand for many with the least squared error. Knows of no model.

Lloyd's iteration (1982, doi:10.1109/TIT.1982.1056489) over sorted values, where a cluster is an interval and its sum a difference
of running sums: each round costs a few searches, whatever the number of values. Starts between quantiles and an even spread, so
nothing is random.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_ROUNDS = 200


def codebook(values: Array, count: int) -> Array:
    """At most ``count`` centres for ``values`` (any shape, finite), in ascending order, float32.

    Zeros that make up a cluster's worth of the values (those of a pruned layer) keep a centre of their own and stay zero.
    """
    flat = np.sort(values.reshape(-1).astype(np.float64))
    rest = flat[flat != 0]
    if count > 1 and len(rest) and len(flat) - len(rest) >= len(flat) / count:
        return np.unique(np.append(_centres(rest, count - 1), 0).astype(np.float32))
    return np.unique(_centres(flat, count).astype(np.float32))


def nearest(values: Array, centres: Array) -> Array:
    """``values`` with each replaced by the nearest centre (ascending, float32); in the middle between two the larger one."""
    borders = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    replaced: Array = centres[np.searchsorted(borders, values, side="right")]
    return np.where(values == 0, np.float32(0), replaced) if 0 in centres else replaced


def _centres(ordered: Array, count: int) -> Array:
    distinct = np.unique(ordered)
    if len(distinct) <= count:
        return distinct
    # Quantiles alone leave the tails to a handful of centres, and Lloyd's rounds do not bring more there: halfway to an even
    # spread ends at a half to a quarter of the error for 64 centres and more.
    quantiles = np.quantile(ordered, (np.arange(count) + 0.5) / count)
    centres = (quantiles + np.linspace(ordered[0], ordered[-1], count)) / 2
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    edges = np.array([])
    for _ in range(_ROUNDS):
        moved = np.concatenate([[0], np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2), [len(ordered)]])
        if np.array_equal(moved, edges):
            break
        edges = moved
        sizes = np.diff(edges)
        centres = np.where(sizes > 0, np.diff(sums[edges]) / np.maximum(sizes, 1), centres)
    return centres
