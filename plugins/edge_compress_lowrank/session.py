"""How this plugin runs models while it looks at them: in a child process that shares its cores with others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edge_compress.plugin import Batch, Context

Array = np.ndarray[Any, Any]

_ACTIVATION_BYTES = 192 << 20
"""of one batch, in memory at a time"""
_LARGEST_BATCH = 32


def quiet(threads: int) -> ort.SessionOptions:
    """Session options for a child process: errors only, and no arena, which would keep the largest batch's memory for good."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads, options.inter_op_num_threads = max(1, threads), 1
    options.enable_cpu_mem_arena = False
    return options


def activations(
    model: onnx.ModelProto, tensors: Sequence[str], context: Context, samples: int, skipped: int
) -> Iterator[dict[str, Array]]:
    """Float32 tensors of the model by name, for each batch of at most ``samples`` calibration samples in all, after the first
    ``skipped`` where there are twice as many and more.

    Raises ValueError when there are no samples.
    """
    runner = _Runner(model, tensors, context.limits.threads)
    first = next(iter(context.calibration(batch_size=1, limit=1)), None)
    if first is None:
        raise ValueError("there are no calibration samples")
    one = sum(values.nbytes for values in runner.run(first).values()) // len(first)
    size = max(1, min(_LARGEST_BATCH, _ACTIVATION_BYTES // max(1, one)))
    available = sum(len(batch) for batch in context.calibration(batch_size=size, limit=2 * skipped))
    left = skipped if available >= 2 * skipped else 0
    for batch in context.calibration(batch_size=size, limit=samples + left):
        left -= len(batch)
        if left < 0:
            yield runner.run(batch)


class _Runner:
    """A session that computes some tensors and nothing that these do not need."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        fed = {item.name for item in model.graph.input}
        self._fed = [name for name in tensors if name in fed]
        self._made = [name for name in tensors if name not in fed]
        self._session: ort.InferenceSession | None = None
        if self._made:
            exposed = onnx.ModelProto()
            exposed.CopyFrom(model)
            del exposed.graph.output[:]
            exposed.graph.output.extend(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self._made
            )
            self._session = ort.InferenceSession(exposed.SerializeToString(), quiet(threads), providers=["CPUExecutionProvider"])

    def run(self, batch: Batch) -> dict[str, Array]:
        """The tensors by name."""
        made = self._session.run(self._made, dict(batch.inputs)) if self._session else []
        return {**{name: batch.inputs[name] for name in self._fed}, **dict(zip(self._made, made, strict=True))}
