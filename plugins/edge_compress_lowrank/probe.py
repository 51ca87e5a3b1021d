"""How much a split of one layer moves the outputs of the whole model: measured, not assumed.

One layer at a time, on a few calibration samples; a layer's harm at other ranks follows in proportion to what its own output
loses, which holds for small errors. Leaves which split to choose to ``ranks``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edge_compress.plugin import Batch, Context
from edge_compress_lowrank.factors import Split
from edge_compress_lowrank.layers import Layer
from edge_compress_lowrank.rewrite import rewrite
from edge_compress_lowrank.session import quiet

Array = np.ndarray[Any, Any]

_SAMPLES = 32
_BATCH = 16


class Probe:
    """Outputs of the model as it is, to hold others against."""

    def __init__(self, model: onnx.ModelProto, context: Context) -> None:
        self._model, self._threads = model, context.limits.threads
        self._batches = list(context.calibration(batch_size=_BATCH, limit=_SAMPLES))
        if not self._batches:
            raise ValueError("there are no calibration samples")
        self._wanted = self._outputs(model)

    def harm(self, layer: Layer, split: Split) -> float:
        """Mean squared change of the outputs when only this layer is split, as a share of their variance, summed over outputs."""
        changed = onnx.ModelProto()
        changed.CopyFrom(self._model)
        rewrite(changed, {layer.key: (layer, split)})
        return sum(_moved(want, got) for want, got in zip(self._wanted, self._outputs(changed), strict=True))

    def _outputs(self, model: onnx.ModelProto) -> list[Array]:
        session = ort.InferenceSession(model.SerializeToString(), quiet(self._threads), providers=["CPUExecutionProvider"])
        runs = [_run(session, batch) for batch in self._batches]
        return [np.concatenate([np.atleast_1d(values) for values in parts]) for parts in zip(*runs, strict=True)]


def _run(session: ort.InferenceSession, batch: Batch) -> list[Array]:
    return [np.asarray(values) for values in session.run(None, dict(batch.inputs))]


def _moved(want: Array, got: Array) -> float:
    """Zero for outputs that are no floats, or never change."""
    if want.dtype.kind != "f" or want.shape != got.shape:
        return 0.0
    spread = float(np.var(want, dtype=np.float64))
    return float(np.mean((got.astype(np.float64) - want) ** 2)) / spread if spread else 0.0
