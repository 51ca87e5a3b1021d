"""Area under the ROC curve from ranks (the Mann-Whitney statistic), equal scores sharing their mean rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edge_compress.plugin import QualityMetric

Array = np.ndarray[Any, Any]


class Auc(QualityMetric):
    """AUC of two classes, or the mean over classes of each against the rest.

    Scores that are not probabilities go through softmax first, because what is compared between samples must not depend on a
    shift that softmax would remove.
    """

    name: ClassVar[str] = "auc"
    needs_labels: ClassVar[bool] = True

    def rows(self, outputs: Sequence[Array], labels: Array | None, reference: Sequence[Array] | None) -> Array:
        """The scores of a sample followed by its label. Raises ValueError unless the output is (n,) or (n, classes)."""
        if labels is None:
            raise ValueError("auc needs labels")
        scores = outputs[0].reshape(len(outputs[0]), -1) if outputs[0].ndim < 3 or outputs[0][0].size == 1 else outputs[0]
        if scores.ndim != 2 or labels.ndim != 1:
            raise ValueError(f"auc: read an output of shape {outputs[0].shape}, expected (samples,) or (samples, classes)")
        return np.concatenate([scores, labels[:, None]], axis=1).astype(np.float64)

    def reduce(self, rows: Array) -> float:
        """The area; NaN when no class has samples both in and out of it, so that there is nothing to tell apart."""
        scores, labels = rows[:, :-1], rows[:, -1]
        if not np.isfinite(scores).all():
            return 0.0
        if scores.shape[1] == 1:
            return _area(scores[:, 0], labels > 0)
        if scores.shape[1] == 2:
            return _area(scores[:, 1] - scores[:, 0], labels > 0)
        shares = _probabilities(scores)
        areas = np.asarray([_area(shares[:, index], labels == index) for index in range(scores.shape[1])])
        return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")


def _area(scores: Array, positive: Array) -> float:
    inside, outside = int(positive.sum()), int((~positive).sum())
    if not inside or not outside:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return float((mean_rank[place][positive].sum() - inside * (inside + 1) / 2) / (inside * outside))


def _probabilities(scores: Array) -> Array:
    if (scores >= -1e-6).all() and np.allclose(scores.sum(axis=1), 1.0, atol=0.02):
        return scores
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
