"""How much a split of one layer moves the outputs of the whole model: measured, not assumed.

One layer at a time, on a few calibration samples that no factor was fitted to (``HELD_OUT``). Leaves which splits are measured,
and what follows for others, to ``ranks``.
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

HELD_OUT = 32
"""samples at the start of the data that only the probe looks at, where there are twice as many and more"""
_BATCH = 16


class Probe:
    """Outputs of the model as it is, to hold others against."""

    def __init__(self, model: onnx.ModelProto, context: Context) -> None:
        self._model, self._threads = model, context.limits.threads
        self._batches = list(context.calibration(batch_size=_BATCH, limit=HELD_OUT))
        if not self._batches:
            raise ValueError("there are no calibration samples")
        self._wanted = self._outputs(model)

    def harm(self, layer: Layer, split: Split) -> float:
        """What the outputs change when only this layer is split: see ``_moved``; summed over outputs."""
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
    """Mean squared change as a share of the variance; for rows of scores also the divergence of the classes they stand for,
    since what separates classes is a small part of their variance. Zero for outputs that are no floats, or never change."""
    if want.dtype.kind != "f" or want.shape != got.shape:
        return 0.0
    want, got = want.astype(np.float64), got.astype(np.float64)
    spread = float(np.var(want))
    share = float(np.mean((got - want) ** 2)) / spread if spread else 0.0
    return share + (_divergence(want, got) if want.ndim == 2 and want.shape[1] > 1 else 0.0)


def _divergence(want: Array, got: Array) -> float:
    """Kullback-Leibler, of the classes' shares before and after, averaged over rows."""
    before, after = _shares(want), _shares(got)
    return max(0.0, float(np.mean(np.sum(before * np.log(before / after), axis=1))))


def _shares(scores: Array) -> Array:
    """Scores that are shares already stay; others become shares by softmax."""
    if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores = scores + 1e-9
    shares: Array = scores / scores.sum(axis=1, keepdims=True)
    return shares
