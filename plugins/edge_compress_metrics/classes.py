"""Metrics of class decisions: top1 and top5 against labels, agreement with the float original.

All read the model's first output. Classes lie on the last axis of (n, classes) and (n, tokens, classes), on the second of
(n, classes, height, width); a sample of several decisions scores their mean. A single score per sample is a probability for
top1 (yes above one half) and a measurement for agreement. Equal scores go to the lower class, as argmax has it; a NaN is never
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edge_compress.plugin import QualityMetric

Array = np.ndarray[Any, Any]

CLOSE = 0.05
"""single scores agree when they differ by at most this share of the original's, or by this much where that is below one"""


class _TopK(QualityMetric):
    needs_labels: ClassVar[bool] = True
    k: ClassVar[int]

    def rows(self, outputs: Sequence[Array], labels: Array | None, reference: Sequence[Array] | None) -> Array:
        """Share of a sample's decisions whose label is among the first k.

        Raises ValueError when labels are missing or do not fit the output.
        """
        if labels is None:
            raise ValueError(f"{self.name} needs labels")
        if _single(outputs[0]):
            return np.asarray((outputs[0].reshape(-1) > 0.5) == (labels.reshape(-1) > 0), np.float64)
        scores = _classes_last(outputs[0])
        if scores.shape[:-1] != labels.shape:
            raise ValueError(f"{self.name}: read labels of shape {labels.shape}, expected {scores.shape[:-1]}")
        return _per_sample(_rank(scores, labels) < self.k)


class Top1(_TopK):
    """Share of samples whose best class is the label."""

    name: ClassVar[str] = "top1"
    k: ClassVar[int] = 1


class Top5(_TopK):
    """Share of samples whose label is among the five best classes."""

    name: ClassVar[str] = "top5"
    k: ClassVar[int] = 5


class Agreement(QualityMetric):
    """Share of samples decided as the float original decides them, the mean over all outputs; needs no labels."""

    name: ClassVar[str] = "agreement"
    needs_reference: ClassVar[bool] = True

    def rows(self, outputs: Sequence[Array], labels: Array | None, reference: Sequence[Array] | None) -> Array:
        """Share of a sample's decisions that are the same, 0 or 1 for a single score."""
        if reference is None:
            raise ValueError("agreement needs the original's outputs")
        alike = [_alike(ours, theirs) for ours, theirs in zip(outputs, reference, strict=True)]
        return np.asarray(np.mean(alike, axis=0), np.float64)


def _alike(ours: Array, theirs: Array) -> Array:
    """One output's share of like decisions for each sample. Whole numbers and truth values are decisions by themselves."""
    if ours.shape != theirs.shape:
        return np.zeros(len(theirs))
    if theirs.dtype.kind != "f":
        return _per_sample(ours == theirs)
    if _single(theirs):
        ours, theirs = ours.reshape(-1), theirs.reshape(-1)
        return np.asarray(np.abs(ours - theirs) <= CLOSE * np.maximum(np.abs(theirs), 1.0), np.float64)
    ours, theirs = _classes_last(ours), _classes_last(theirs)
    valid = ~np.isnan(ours).any(axis=-1)
    return _per_sample((ours.argmax(axis=-1) == theirs.argmax(axis=-1)) & valid)


def _single(output: Array) -> bool:
    return output.ndim < 2 or output[0].size == 1


def _classes_last(output: Array) -> Array:
    last: Array = np.moveaxis(output, 1, -1) if output.ndim >= 4 else output
    return last


def _rank(scores: Array, labels: Array) -> Array:
    """How many classes come before the label. A NaN counts as before it, and a label whose own score is NaN comes last."""
    index = labels.astype(np.int64)[..., None]
    own = np.take_along_axis(scores, index, axis=-1)
    lower = np.arange(scores.shape[-1]) < index
    behind = (scores < own) | ((scores == own) & ~lower)
    return np.asarray(scores.shape[-1] - behind.sum(axis=-1))


def _per_sample(right: Array) -> Array:
    return np.asarray(right.reshape(len(right), -1).mean(axis=1), np.float64)
