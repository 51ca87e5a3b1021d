"""Golden vectors in the model process: inputs, and the outputs a good installation gives for them. Needs numpy.

An .npz of ``in/<name>`` and ``out/<name>`` arrays, samples along the first axis. Leaves running the model to ``runner``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_compress.agent.framing import Array
from edge_compress.errors import InvalidData

Values = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class Golden:
    """``given`` and ``wanted`` map names of inputs and outputs to arrays with the samples along the first axis."""

    given: Values
    wanted: Values

    @property
    def samples(self) -> int:
        """How many there are."""
        return min((len(item) for item in (*self.given.values(), *self.wanted.values())), default=0)

    def inputs(self, start: int, count: int) -> Values:
        """What to feed for samples ``start`` to ``start + count``."""
        return {name: value[start : start + count] for name, value in self.given.items()}

    def outputs(self, start: int, count: int) -> Values:
        """What must come out for them."""
        return {name: value[start : start + count] for name, value in self.wanted.items()}


def read(path: str) -> Golden:
    """Read an .npz of golden vectors. Raises InvalidData when it holds no inputs, no outputs or no samples, OSError."""
    with np.load(path, allow_pickle=False) as arrays:
        given = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in/")}
        wanted = {name[4:]: arrays[name] for name in arrays.files if name.startswith("out/")}
    golden = Golden(given, wanted)
    if not given or not wanted or golden.samples < 1:
        counts = f"{len(given)} inputs, {len(wanted)} outputs and {golden.samples} samples"
        raise InvalidData(f"{path}: {counts}; expected some of each")
    return golden


def difference(got: Values, wanted: Values, rtol: float, atol: float, start: int) -> str:
    """The worst element for which not |got - want| <= atol + rtol * |want|, in words; empty when every element passes."""
    for name, want in wanted.items():
        have = got.get(name)
        if have is None:
            return f"the model has no output {name!r}"
        if have.shape != want.shape:
            return f"{name}: shape {have.shape}, expected {want.shape}"
        expected, actual = want.astype(np.float64), have.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity less infinity: equal ones are looked at by themselves
            excess = np.abs(actual - expected) - (atol + rtol * np.abs(expected))
        excess = np.where(np.isinf(expected) & (actual == expected), 0.0, excess)
        # Not `excess > 0`: a NaN must fail.
        if not np.all(excess <= 0):
            worst = int(np.nanargmax(np.where(np.isnan(excess), np.inf, excess)))
            sample = start + worst // max(1, want[:1].size)
            return f"{name}, sample {sample}: got {actual.flat[worst]:.6g}, expected {expected.flat[worst]:.6g}"
    return ""


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """The numpy array of a message's array, without a copy. Raises ValueError when the bytes do not fit the shape."""
    return np.frombuffer(array.data, dtype=np.dtype(array.dtype)).reshape(array.shape)


def to_array(name: str, value: np.ndarray[Any, Any]) -> Array:
    """The message's array of a numpy array."""
    return Array(name, value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
