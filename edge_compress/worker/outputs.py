"""Looks at all outputs of a candidate: which have a row for each sample, and whether each still follows the original's.

A metric may judge one output of several; here the others are held against the original, so that no artifact counts whose boxes
are noise because its classes are right. How good a candidate is, is left to metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_compress.errors import StepFailed

Array = np.ndarray[Any, Any]

_MOST_NOISE = 0.9
"""of the original's variance; zeros alone would be nearly as good"""
_SLACK = 0.01
"""of the mean square: what an output that hardly varies may be off besides"""
_LEAST_EQUAL = 0.5
"""share of the elements of an output of whole numbers or truth values"""


def with_rows(outputs: Sequence[Any], samples: int) -> list[int]:
    """Positions of the outputs whose first axis are the ``samples``. Raises StepFailed when there are none."""
    shapes = [np.shape(item) for item in outputs]
    found = [index for index, shape in enumerate(shapes) if shape and shape[0] == samples]
    if not found:
        said = ", ".join(str(shape) for shape in shapes)
        raise StepFailed(f"no output has one row for each sample: read shapes {said} for {samples} samples", reason="output")
    return found


class Companions:
    """Every output of a candidate beside the original's, over all samples."""

    def __init__(self) -> None:
        self._noise: dict[int, float] = {}
        self._values: dict[int, list[float]] = {}
        self._equal: dict[int, list[float]] = {}

    def see(self, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        """One batch. Outputs whose shape depends on values may differ in it, and are compared where they do not."""
        for index, (got, want) in enumerate(zip(map(np.asarray, ours), map(np.asarray, theirs), strict=True)):
            if got.shape != want.shape or not want.size:
                continue
            if want.dtype.kind == "f":
                self._see_floats(index, got.astype(np.float64), want.astype(np.float64))
            else:
                self._equal.setdefault(index, []).append(float(np.mean(got == want)))

    def refuse_strangers(self) -> None:
        """Raise StepFailed for the first output that has nothing to do with the original's."""
        for index, (count, total, squares) in self._values.items():
            mean_square = squares / count
            variance = mean_square - (total / count) ** 2
            noise = self._noise[index] / count
            if noise > _MOST_NOISE * variance + _SLACK * mean_square:
                said = f"its error is {noise**0.5:.3g} where values vary by {max(0.0, variance) ** 0.5:.3g}"
                raise StepFailed(f"output {index} does not follow the original's: {said}", reason="output")
        for index, shares in self._equal.items():
            if (share := float(np.mean(shares))) < _LEAST_EQUAL:
                raise StepFailed(f"output {index} does not follow the original's: {share:.1%} is equal", reason="output")

    def _see_floats(self, index: int, got: Array, want: Array) -> None:
        finite = np.isfinite(want) & np.isfinite(got)
        wanted = want[finite]
        sums = self._values.setdefault(index, [0.0, 0.0, 0.0])
        for at, value in enumerate((max(1, wanted.size), wanted.sum(), np.square(wanted).sum())):
            sums[at] += float(value)
        self._noise[index] = self._noise.get(index, 0.0) + float(np.square(got[finite] - wanted).sum())
