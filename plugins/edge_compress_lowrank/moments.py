"""What the inputs of layers look like on real data: mean and covariance of the patches that one output is computed from.

Streams: at any time one batch of activations is in memory, and accumulators of a bounded size; more layers than fit take further
passes over the data, and finished moments wait in the scratch folder. A covariance estimated from few samples is shrunk towards
a multiple of the identity (oracle approximating shrinkage, Chen et al. 2010, arXiv:0907.4698), so that directions the samples
happened not to show are not thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edge_compress.plugin import Context
from edge_compress_lowrank.layers import Layer
from edge_compress_lowrank.session import activations
from edge_compress_lowrank.window import Window

Array = np.ndarray[Any, Any]

WIDEST = 5120
"""values of a patch; wider layers are factored without data, since their covariance would take gigabytes"""
_PASS_BYTES = 320 << 20
"""accumulators of one pass over the data"""
_PATCHES_PER_VALUE = 12
"""patches looked at in all for each value of a patch, drawn at random: enough for a covariance, and no more work than that"""


@dataclass(frozen=True, eq=False)
class Moment:
    """Mean (n,) and covariance (n, n) of patches of n values. ``second`` None: the identity, nothing is known of the data."""

    mean: Array
    second: Array | None = None

    @classmethod
    def unknown(cls, width: int) -> Moment:
        """Every direction counts the same, which makes a factorisation one of the weights alone."""
        return cls(np.zeros(width))

    def times(self, rows: Array) -> Array:
        """rows @ second."""
        return rows if self.second is None else rows @ self.second

    def folded(self, shape: tuple[int, ...], kept: tuple[int, ...]) -> Moment:
        """Of patches shaped ``shape``: moments of the values along the axes ``kept``, averaged over the other axes."""
        width = math.prod(shape[axis] for axis in kept)
        if self.second is None:
            return Moment.unknown(width)
        rest = tuple(axis for axis in range(len(shape)) if axis not in kept)
        order = (*kept, *rest, *(len(shape) + axis for axis in (*kept, *rest)))
        square = self.second.reshape(*shape, *shape).transpose(order).reshape(width, -1, width, self.mean.size // width)
        return Moment(np.zeros(width), np.einsum("apbp->ab", square) / square.shape[1])


class Accumulator:
    """Sums that mean and covariance follow from."""

    def __init__(self, width: int) -> None:
        self._square = np.zeros((width, width))
        self._sum = np.zeros(width)
        self._count = 0

    def add(self, rows: Array) -> None:
        """Patches as rows of a (count, n) array. Raises ValueError when one is not finite."""
        if not np.isfinite(rows).all():
            raise ValueError("takes values that are not finite")
        self._square += rows.T @ rows
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self._count += len(rows)

    def moment(self, *, centred: bool) -> Moment:
        """``centred``: what is constant can go to a bias, so that only the deviation from the mean counts."""
        mean = self._sum / self._count
        square = self._square / self._count - (np.outer(mean, mean) if centred else 0)
        return Moment(mean if centred else np.zeros_like(mean), shrunk(square, self._count))


def shrunk(square: Array, count: int) -> Array:
    """The covariance of ``count`` samples, moved towards a multiple of the identity as much as so few samples warrant."""
    width = len(square)
    trace, energy = float(np.trace(square)), float(np.sum(square * square))
    spread = (count + 1 - 2 / width) * (energy - trace * trace / width)
    share = 1.0 if spread <= 0 else min(1.0, ((1 - 2 / width) * energy + trace * trace) / spread)
    result = (1 - share) * square
    result[np.diag_indices(width)] += share * trace / width
    return result


def observe(
    model: onnx.ModelProto, layers: Sequence[Layer], context: Context, samples: int, skipped: int = 0
) -> Iterator[tuple[Layer, Moment]]:
    """The moment of each layer's input over at most ``samples`` calibration samples after the first ``skipped`` (see
    ``session.activations``), a few layers at a time.

    Raises ValueError when there is no data or an input is not finite, naming the layer.
    """
    narrow = [layer for layer in layers if layer.matrix.shape[1] <= WIDEST]
    for group in _passes(narrow):
        sums = {layer.key: Accumulator(layer.matrix.shape[1]) for layer in group}
        counts = {layer.key: -(-_PATCHES_PER_VALUE * layer.matrix.shape[1] // samples) for layer in group}
        draw = np.random.default_rng(context.seed)
        inputs = list(dict.fromkeys(layer.node.input[0] for layer in group))
        for batch in activations(model, inputs, context, samples, skipped):
            for layer in group:
                _add(sums[layer.key], layer, batch[layer.node.input[0]], counts[layer.key], draw)
        yield from ((layer, sums.pop(layer.key).moment(centred=layer.takes_bias)) for layer in group)
    yield from ((layer, Moment.unknown(layer.matrix.shape[1])) for layer in layers if layer not in narrow)


def patches(window: Window | None, values: Array, count: int, draw: np.random.Generator) -> Array:
    """What outputs are computed from, as rows of n values: at most ``count`` for each sample, drawn at random."""
    if window is None:
        rows = values.reshape(-1, values.shape[-1])
        return rows[_drawn(len(rows), count * len(values), draw)]
    views = views_of(window, values)
    size = views.shape[1 : 1 + len(window.kernel)]
    places = np.unravel_index(_drawn(math.prod(size), count, draw), size)
    chosen: tuple[Any, ...] = (slice(None), *places)
    return np.ascontiguousarray(views[chosen]).reshape(len(values) * len(places[0]), -1)


def views_of(window: Window, values: Array) -> Array:
    """Every patch of (samples, channels, *size), without a copy: (samples, *output size, channels, *kernel)."""
    axes = tuple(range(2, values.ndim))
    padded = np.pad(values, [(0, 0), (0, 0), *window.padding(values.shape[2:])])
    views = np.lib.stride_tricks.sliding_window_view(padded, window.reach(), axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, step) for step in (*window.strides, *window.dilations)))
    return np.moveaxis(views[steps], 1, len(axes) + 1)


def _drawn(size: int, count: int, draw: np.random.Generator) -> Array:
    return np.arange(size) if size <= count else np.sort(draw.choice(size, count, replace=False))


def _passes(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    group: list[Layer] = []
    used = 0
    for layer in layers:
        needed = 8 * layer.matrix.shape[1] ** 2
        if group and used + needed > _PASS_BYTES:
            yield group
            group, used = [], 0
        group.append(layer)
        used += needed
    if group:
        yield group


def _add(sums: Accumulator, layer: Layer, values: Array, count: int, draw: np.random.Generator) -> None:
    try:
        sums.add(patches(layer.window, values, count, draw))
    except ValueError as error:
        raise ValueError(f"the input of layer {layer.name!r} {error}") from error
