"""Streams calibration data through the float model and keeps running statistics of chosen tensors, in bounded memory.

At any time one batch of activations is in memory, and the batch is made small enough for that. Leaves what is remembered, and
which range follows from it, to ``ranges``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edge_compress.plugin import Batch, Context
from edge_compress_quantize.canonical import quiet_options
from edge_compress_quantize.ranges import Statistics

Array = np.ndarray[Any, Any]

_ACTIVATION_BYTES = 192 << 20
"""activations of one batch that may be in memory at a time"""
_LARGEST_BATCH = 32


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    context: Context,
    *,
    samples: int,
    histogram: bool,
    progress: Callable[[float, str], None],
) -> dict[str, Statistics]:
    """Statistics of float32 ``tensors`` over at most ``samples`` calibration samples.

    Raises ValueError when there is no data or a tensor takes values that are not finite, naming it.
    """
    statistics = {name: Statistics(histogram=histogram) for name in tensors}
    done = 0
    for done, found in stream(model, tensors, context, samples=samples):
        for name, values in found.items():
            _add(statistics[name], name, values)
        progress(min(1.0, done / samples), f"calibrating: {done} samples")
    if tensors and not done:
        raise ValueError("there are no calibration samples")
    return statistics


def channel_peaks(
    model: onnx.ModelProto, tensors: Sequence[str], context: Context, *, samples: int, axis: int = 1, sizes: bool = False
) -> dict[str, Array]:
    """The largest value of each channel of ``tensors`` along ``axis``, at least 0, over at most ``samples`` calibration samples;
    with ``sizes`` the largest size, negative ones included."""
    peaks: dict[str, Array] = {}
    for _, found in stream(model, tensors, context, samples=samples) if tensors else ():
        for name, values in found.items():
            over = tuple(index for index in range(values.ndim) if index != axis % values.ndim)
            top = (np.abs(values) if sizes else values).max(axis=over, initial=0.0)
            peaks[name] = np.maximum(peaks[name], top) if name in peaks else top
    return peaks


def stream(
    model: onnx.ModelProto, tensors: Sequence[str], context: Context, *, samples: int
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Values of ``tensors`` batch by batch, each with the number of samples seen so far, over at most ``samples``."""
    runner = _Observer(model, tensors, context.limits.threads)
    done = 0
    for batch in _batches(runner, context, samples):
        done += len(batch)
        yield done, runner.run(batch)


class _Observer:
    """A session of the float model that also returns the observed tensors."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        inputs = {item.name for item in model.graph.input}
        self._fed = [name for name in tensors if name in inputs]
        self._made = [name for name in tensors if name not in inputs]
        options = quiet_options(threads)
        # Its arenas would keep the largest batch's memory for good.
        options.enable_cpu_mem_arena = False
        exposed = _with_outputs(model, self._made).SerializeToString()
        self._session = ort.InferenceSession(exposed, options, providers=["CPUExecutionProvider"])

    def run(self, batch: Batch) -> dict[str, Array]:
        """Values of the observed tensors, by name."""
        fed = {name: batch.inputs[name] for name in self._fed}
        made = self._session.run(self._made, dict(batch.inputs)) if self._made else []
        return {**fed, **dict(zip(self._made, made, strict=True))}


def _batches(runner: _Observer, context: Context, samples: int) -> Iterator[Batch]:
    first = next(iter(context.calibration(batch_size=1, limit=1)), None)
    if first is None:
        return
    size = sum(values.nbytes for values in runner.run(first).values()) // max(1, len(first))
    batch_size = max(1, min(_LARGEST_BATCH, _ACTIVATION_BYTES // max(1, size)))
    yield from context.calibration(batch_size=batch_size, limit=samples)


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {item.name for item in model.graph.output}
    extra = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors if name not in present]
    exposed.graph.output.extend(extra)
    return exposed


def _add(statistics: Statistics, name: str, values: Array) -> None:
    try:
        statistics.add(values)
    except ValueError as error:
        raise ValueError(f"tensor {name!r} {error}") from error
