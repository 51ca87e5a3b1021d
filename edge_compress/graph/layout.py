"""How one stored array becomes one model input: axis order, mean and standard deviation, type. Decided once, from shapes.

Reading rows is left to ``npz`` and the errors' field names to ``samples``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_compress.domain.model import TensorFacts
from edge_compress.domain.spec import Preprocess

Array = np.ndarray[Any, Any]

_TO_FIRST: tuple[int, ...] = (0, 3, 1, 2)
_TO_LAST: tuple[int, ...] = (0, 2, 3, 1)
_ALIKE: dict[str, Sequence[str]] = {"f": "biuf", "i": "biu", "u": "biu", "b": "biu"}
"""kind of the model's input -> kinds of stored arrays that may become it"""


@dataclass(frozen=True)
class Conversion:
    """What is done to a chunk of rows. ``order`` is the transposition (empty: none); ``mean`` and ``std`` are float32, shaped
    to broadcast over the stored rows, or None where the values are taken as they are."""

    dtype: np.dtype[Any]
    order: tuple[int, ...] = ()
    mean: Array | None = None
    std: Array | None = None

    def apply(self, rows: Array) -> Array:
        """The rows as the model takes them, C-contiguous. Raises ValueError when a value does not fit the input's type."""
        if self.mean is not None and self.std is not None:
            rows = (rows.astype(np.float32) - self.mean) / self.std
        if self.order:
            rows = rows.transpose(self.order)
        return np.ascontiguousarray(_cast(rows, self.dtype))


def decide(row_shape: tuple[int, ...], stored: np.dtype[Any], wanted: TensorFacts, how: Preprocess) -> Conversion:
    """How stored rows of ``row_shape`` become the input ``wanted``. Raises ValueError that says what was expected."""
    dtype = _input_dtype(stored, wanted)
    order, channels = _order(row_shape, tuple(wanted.shape[1:]), how.layout, known=bool(wanted.shape))
    if dtype.kind != "f" or (how.mean == (0.0,) and how.std == (1.0,)):
        return Conversion(dtype, order)
    mean = _per_channel(how.mean, "mean", row_shape, channels)
    return Conversion(dtype, order, mean, _per_channel(how.std, "std", row_shape, channels))


def _input_dtype(stored: np.dtype[Any], wanted: TensorFacts) -> np.dtype[Any]:
    try:
        dtype = np.dtype(wanted.dtype)
    except TypeError:
        raise ValueError(f"the model's input {wanted.name!r} is {wanted.dtype}, which no stored array can become") from None
    if stored.kind not in _ALIKE.get(dtype.kind, ""):
        raise ValueError(f"read dtype {stored}, expected one that becomes the model's {wanted.dtype}")
    return dtype


def _order(row: tuple[int, ...], model: tuple[Any, ...], layout: str, known: bool) -> tuple[tuple[int, ...], int | None]:
    """The transposition and the channel axis within a stored row (None: not decided by the layout)."""
    if not known:
        return (), _declared_channels(row, layout)
    fits: dict[tuple[int, ...], bool] = {(): _compatible(row, model)}
    if len(row) == 3:
        moves = {"NHWC": (_TO_FIRST,), "NCHW": (_TO_LAST,), "": (_TO_FIRST, _TO_LAST)}[layout]
        fits |= {order: _compatible(tuple(row[axis - 1] for axis in order[1:]), model) for order in moves}
    chosen = [order for order, fit in fits.items() if fit]
    if not chosen:
        raise ValueError(f"read samples of shape {row}, expected {_show(model)}" + (f" or that from {layout}" if layout else ""))
    order = chosen[0]
    if layout == "NHWC" and _TO_FIRST in chosen:
        # Both orders fit, so the shape decides nothing: vision models are channels-first, and somebody who declares NHWC
        # for one wants it turned.
        order = _TO_FIRST
    channels = {_TO_FIRST: 2, _TO_LAST: 0}.get(order)
    return order, channels if channels is not None else _declared_channels(row, layout)


def _declared_channels(row: tuple[int, ...], layout: str) -> int | None:
    if len(row) != 3 or not layout:
        return None
    return 2 if layout == "NHWC" else 0


def _per_channel(values: tuple[float, ...], name: str, row: tuple[int, ...], channels: int | None) -> Array:
    if len(values) == 1:
        return np.asarray(values[0], np.float32)
    likely = [channels] if channels is not None else [axis for axis in (0, len(row) - 1) if row]
    for axis in likely:
        if row[axis] == len(values):
            shape = [1] * (len(row) + 1)
            shape[axis + 1] = len(values)
            return np.asarray(values, np.float32).reshape(shape)
    raise ValueError(f"preprocess.{name} has {len(values)} numbers, samples of shape {row} have no such channel axis")


def _compatible(row: tuple[int, ...], model: tuple[Any, ...]) -> bool:
    return len(row) == len(model) and all(
        not isinstance(want, int) or want == have for have, want in zip(row, model, strict=True)
    )


def _show(model: tuple[Any, ...]) -> str:
    return "(" + ", ".join(str(axis) if axis != "" else "?" for axis in model) + ")"


def _cast(rows: Array, dtype: np.dtype[Any]) -> Array:
    if rows.dtype == dtype:
        return rows
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes inf, which the caller's finite check names
            return rows.astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else _bounds(dtype)
    if rows.size and (int(rows.min()) < low or int(rows.max()) > high):
        raise ValueError(f"read values from {rows.min()} to {rows.max()}, expected {low} to {high} ({dtype})")
    return rows.astype(dtype)


def _bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
