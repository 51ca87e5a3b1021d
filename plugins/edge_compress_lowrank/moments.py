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
import onnxruntime as ort

from edge_compress.plugin import Batch, Context
from edge_compress_lowrank.layers import Layer

Array = np.ndarray[Any, Any]

WIDEST = 5120
"""values of a patch; wider layers are factored without data, since their covariance would take gigabytes"""
_ACTIVATION_BYTES = 192 << 20
_PASS_BYTES = 320 << 20
"""accumulators of one pass over the data"""
_LARGEST_BATCH = 32
_POSITIONS = 128
"""patches looked at per sample and layer, drawn at random"""


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


def observe(model: onnx.ModelProto, layers: Sequence[Layer], context: Context, samples: int) -> Iterator[tuple[Layer, Moment]]:
    """The moment of each layer's input over at most ``samples`` calibration samples, a few layers at a time.

    Raises ValueError when there is no data or an input is not finite, naming the layer.
    """
    narrow = [layer for layer in layers if layer.matrix.shape[1] <= WIDEST]
    passes = list(_passes(narrow))
    for index, group in enumerate(passes):
        sums = {layer.key: Accumulator(layer.matrix.shape[1]) for layer in group}
        draw = np.random.default_rng(context.seed)
        for batch in _activations(model, group, context, samples):
            for layer in group:
                _add(sums[layer.key], layer, batch[layer.node.input[0]], draw)
        context.progress(0.05 + 0.4 * (index + 1) / len(passes), "watching the inputs of layers")
        yield from ((layer, sums.pop(layer.key).moment(centred=layer.takes_bias)) for layer in group)
    yield from ((layer, Moment.unknown(layer.matrix.shape[1])) for layer in layers if layer not in narrow)


def patches(layer: Layer, values: Array, draw: np.random.Generator) -> Array:
    """What outputs of the layer are computed from, as rows (count, n): all of a few, else a random choice."""
    if layer.window is None:
        rows = values.reshape(-1, values.shape[-1])
        limit = _POSITIONS * len(values)
        return rows if len(rows) <= limit else rows[np.sort(draw.choice(len(rows), limit, replace=False))]
    window, spatial = layer.window, tuple(range(2, values.ndim))
    padded = np.pad(values, [(0, 0), (0, 0), *window.padding(values.shape[2:])])
    views = np.lib.stride_tricks.sliding_window_view(padded, window.reach(), axis=spatial)
    steps: tuple[slice, ...] = (
        slice(None),
        slice(None),
        *(slice(None, None, step) for step in (*window.strides, *window.dilations)),
    )
    views = np.moveaxis(views[steps], 1, len(spatial) + 1)
    size = views.shape[1 : 1 + len(spatial)]
    count = min(_POSITIONS, math.prod(size))
    places = np.unravel_index(np.sort(draw.choice(math.prod(size), count, replace=False)), size)
    chosen: tuple[Any, ...] = (slice(None), *places)
    return np.ascontiguousarray(views[chosen]).reshape(len(values) * count, -1)


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


def _add(sums: Accumulator, layer: Layer, values: Array, draw: np.random.Generator) -> None:
    try:
        sums.add(patches(layer, values, draw))
    except ValueError as error:
        raise ValueError(f"the input of layer {layer.name!r} {error}") from error


def _activations(model: onnx.ModelProto, layers: Sequence[Layer], context: Context, samples: int) -> Iterator[dict[str, Array]]:
    """The inputs of these layers, batch by batch."""
    wanted = list(dict.fromkeys(layer.node.input[0] for layer in layers))
    fed = {item.name for item in model.graph.input}
    made = [name for name in wanted if name not in fed]
    session = _session(model, made, context.limits.threads)

    def run(batch: Batch) -> dict[str, Array]:
        outputs = session.run(made, dict(batch.inputs)) if made else []
        return {**batch.inputs, **dict(zip(made, outputs, strict=True))}

    first = next(iter(context.calibration(batch_size=1, limit=1)), None)
    if first is None:
        raise ValueError("there are no calibration samples")
    one = sum(run(first)[name].nbytes for name in wanted) // len(first)
    size = max(1, min(_LARGEST_BATCH, _ACTIVATION_BYTES // max(1, one)))
    yield from (run(batch) for batch in context.calibration(batch_size=size, limit=samples))


def _session(model: onnx.ModelProto, made: Sequence[str], threads: int) -> ort.InferenceSession:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {item.name for item in model.graph.output}
    extra = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in made if name not in present]
    exposed.graph.output.extend(extra)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads, options.inter_op_num_threads = max(1, threads), 1
    options.enable_cpu_mem_arena = False  # an arena would keep the largest batch's memory for good
    return ort.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
