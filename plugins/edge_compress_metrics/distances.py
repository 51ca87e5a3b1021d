"""Metrics of distance between outputs: cosine similarity and mean squared error, for models that decide no classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edge_compress.plugin import QualityMetric

Array = np.ndarray[Any, Any]


class Cosine(QualityMetric):
    """Cosine similarity of outputs to the float original's: 1 is the same direction, the mean over samples and outputs."""

    name: ClassVar[str] = "cosine"
    needs_reference: ClassVar[bool] = True

    def rows(self, outputs: Sequence[Array], labels: Array | None, reference: Sequence[Array] | None) -> Array:
        """One similarity a sample. Raises ValueError where every output is a single number, which has no direction."""
        if reference is None:
            raise ValueError("cosine needs the original's outputs")
        pairs = [(_flat(ours), _flat(theirs)) for ours, theirs in zip(outputs, reference, strict=True)]
        if all(ours.shape[1] == 1 for ours, _ in pairs):
            raise ValueError("cosine: the model gives one number a sample, which has no direction; use mse or agreement")
        return np.asarray(np.mean([_similarity(*pair) for pair in pairs], axis=0))


class MeanSquaredError(QualityMetric):
    """Mean squared error against labels of the output's shape where there are such, else against the float original."""

    name: ClassVar[str] = "mse"
    needs_reference: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False

    def rows(self, outputs: Sequence[Array], labels: Array | None, reference: Sequence[Array] | None) -> Array:
        """One mean of squares a sample. Raises ValueError when there is nothing to compare with."""
        if (
            labels is not None
            and labels.dtype.kind == "f"
            and len(outputs) == 1
            and _flat(labels).shape == _flat(outputs[0]).shape
        ):
            wanted: Sequence[Array] = [labels]
        elif reference is not None:
            wanted = reference
        else:
            raise ValueError("mse needs the original's outputs, or labels of the output's shape")
        squares = [(_flat(ours) - _flat(right)) ** 2 for ours, right in zip(outputs, wanted, strict=True)]
        return np.asarray(np.concatenate(squares, axis=1).mean(axis=1))


def _flat(values: Array) -> Array:
    return np.asarray(values.reshape(len(values), -1), np.float64)


def _similarity(ours: Array, theirs: Array) -> Array:
    """1 for two zero vectors, 0 for one. Scaled first, so that squares neither overflow nor vanish."""
    ours, theirs = _scaled(ours), _scaled(theirs)
    length = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    both_zero = ~ours.any(axis=1) & ~theirs.any(axis=1)
    similarity = (ours * theirs).sum(axis=1) / np.where(length == 0, 1.0, length)
    return np.asarray(np.where(both_zero, 1.0, np.clip(similarity, -1.0, 1.0)))


def _scaled(values: Array) -> Array:
    largest = np.abs(values).max(axis=1, keepdims=True)
    return np.asarray(values / np.where(largest == 0, 1.0, largest))
