"""First and second moments of what each layer multiplies its weights with, streamed over calibration data in bounded memory.

The second moment decides what an error in the weights does to a layer's output: its mean square is e H e^T for one row e of
errors. Layers are taken a few at a time, as many as their matrices fit, with one pass over the data for each few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_compress.plugin import Context
from edge_compress_quantize.assembly import Assembly, Layer
from edge_compress_quantize.calibrate import stream
from edge_compress_quantize.patches import data_rows

Array = np.ndarray[Any, Any]

_HELD_BYTES = 256 << 20
"""matrices of one pass"""
_ROWS = 8192
"""patches of one layer that are looked at"""


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the ``rows`` a layer multiplies: ``mean`` (groups, K) and ``second`` (groups, K, K), both averages; float64."""

    mean: Array
    second: Array
    rows: int

    def trusted(self, *, about_mean: bool) -> Array:
        """The second moment, about the mean or not, with what few rows say of pairs of columns taken for chance: shrunken
        towards its diagonal (Ledoit and Wolf 2004) by K / (K + rows)."""
        whole = self.second - self.mean[:, :, None] * self.mean[:, None, :] if about_mean else self.second
        length = whole.shape[1]
        kept = self.rows / (length + self.rows)
        return np.asarray(whole * (kept + (1 - kept) * np.eye(length)))


def layer_moments(
    assembly: Assembly, context: Context, *, samples: int, progress: Callable[[float, str], None]
) -> Iterator[tuple[Layer, Moments]]:
    """Every layer of ``assembly`` with its moments, in graph order; drop each before asking for the next."""
    parts = _parts(assembly.layers)
    for index, part in enumerate(parts):
        first, share = index / len(parts), 1 / len(parts)
        sums = [_Sum(layer) for layer in part]
        names = list(dict.fromkeys(layer.node.input[0] for layer in part))
        for done, values in stream(assembly.model, names, context, samples=samples):
            for layer, item in zip(part, sums, strict=True):
                item.add(values[layer.node.input[0]], samples)
            progress(first + 0.5 * share * min(1.0, done / samples), f"moments: {done} samples")
        for done, (layer, item) in enumerate(zip(part, sums, strict=True)):
            yield layer, item.moments()
            progress(first + share * (0.5 + 0.5 * (done + 1) / len(part)), f"rounding: {layer.title}")


class _Sum:
    """Running sums of one layer."""

    def __init__(self, layer: Layer) -> None:
        self._layer, self._rows = layer, 0
        self._kernel = layer.found.weights.shape[2:]
        self._first: Array | None = None
        self._second: Array | None = None

    def add(self, values: Array, samples: int) -> None:
        """Take in the layer's input for one batch of ``samples`` in all."""
        most = max(1, _ROWS * len(values) // samples)
        rows = data_rows(self._layer.node, self._kernel, values, most)
        first, second = rows.sum(axis=1, dtype=np.float64), np.matmul(rows.transpose(0, 2, 1), rows)
        self._first = first if self._first is None else self._first + first
        self._second = second if self._second is None else self._second + second
        self._rows += rows.shape[1]

    def moments(self) -> Moments:
        """The averages."""
        assert self._first is not None
        assert self._second is not None
        return Moments(self._first / self._rows, self._second.astype(np.float64) / self._rows, self._rows)


def _parts(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Neighbouring layers whose matrices fit into memory together."""
    parts: list[list[Layer]] = [[]]
    held = 0
    for layer in layers:
        size = _matrix_bytes(layer)
        if parts[-1] and held + size > _HELD_BYTES:
            parts.append([])
            held = 0
        parts[-1].append(layer)
        held += size
    return parts


def _matrix_bytes(layer: Layer) -> int:
    groups, _, length = layer.rows(layer.found.weights).shape
    return int(4 * groups * length * length)
