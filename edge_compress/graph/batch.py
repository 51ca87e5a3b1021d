"""A handful of samples as a model takes them: the currency between data files, strategies and runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Batch:
    """Some samples: ``inputs`` as the model takes them (preprocessed), ``labels`` aligned with them, or None."""

    inputs: Mapping[str, np.ndarray[Any, Any]]
    labels: np.ndarray[Any, Any] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))
