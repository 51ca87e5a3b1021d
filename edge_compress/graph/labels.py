"""Labels of a data file: whole numbers within the model's classes, or finite targets. ``samples`` names the field in errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_compress.domain.model import TensorFacts
from edge_compress.graph.npz import BadMember, Member

LABELS = "y"


def count_classes(labels: Member | None, *, needed: bool, outputs: Sequence[TensorFacts]) -> int:
    """Read every label; the highest class + 1, or 0 where there are no labels or they are targets of a regression.

    ``needed``: the metric needs whole numbers. Labels must lie within the classes of the first output where its shape tells.
    """
    if labels is None:
        if needed:
            raise BadMember(LABELS, "is missing, and the quality metric needs labels")
        return 0
    if labels.dtype.kind == "f":
        _check_targets(labels, needed)
        return 0
    known = _class_count(outputs)
    return 1 + max(_highest(start, chunk.astype(np.int64), known) for start, chunk in labels.numbered())


def _highest(start: int, labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]], known: int) -> int:
    wrong = (labels < 0) | (labels >= known) if known else labels < 0
    if wrong.any():
        bad = int(np.argmax(wrong.reshape(len(labels), -1).any(axis=1)))
        value, expected = labels[bad][wrong[bad]].ravel()[0], f"0 to {known - 1}" if known else "0 or more"
        raise BadMember(LABELS, f"sample {start + bad} has label {value}, expected {expected}")
    return int(labels.max())


def _check_targets(labels: Member, needed: bool) -> None:
    if needed:
        raise BadMember(LABELS, f"read dtype {labels.dtype}, expected whole numbers")
    for start, chunk in labels.numbered():
        if not np.isfinite(chunk).all():
            raise BadMember(LABELS, f"samples from {start} on hold NaN or infinity, expected finite numbers")


def _class_count(outputs: Sequence[TensorFacts]) -> int:
    """Columns of a classifier's first output; 0 where the shape does not say."""
    shape = outputs[0].shape if outputs else ()
    known = len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 1
    return int(shape[1]) if known else 0
