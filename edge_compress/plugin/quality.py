"""What a quality metric is: a score per sample and how scores become one figure."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np


class QualityMetric(abc.ABC):
    """Base of every quality metric. Values and drops are fractions (0.8269), never percentages."""

    name: ClassVar[str]
    needs_labels: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    """compares with the float original's outputs on the same samples"""
    higher_is_better: ClassVar[bool] = True

    @abc.abstractmethod
    def rows(
        self,
        outputs: Sequence[np.ndarray[Any, Any]],
        labels: np.ndarray[Any, Any] | None,
        reference: Sequence[np.ndarray[Any, Any]] | None,
    ) -> np.ndarray[Any, Any]:
        """One row a sample: shape (n,) or (n, k). ``outputs`` and ``reference`` are the model's outputs, batch first."""

    def reduce(self, rows: np.ndarray[Any, Any]) -> float:
        """One figure from all rows. Default: the mean, whose interval the host computes; others are bootstrapped."""
        return float(rows.mean())
