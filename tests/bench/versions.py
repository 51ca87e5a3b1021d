"""Old and new versions of one model as they are delivered: what the bench of updates measures between.

Files are what the target writes for a device. Fine-tuning is a few small steps on labelled samples, as after new data came in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from edge_compress_onnxruntime.target import OnnxRuntime
from edge_compress_quantize.static import QuantizeStatic, StaticParams

from edge_compress.graph.bridge import to_onnx, to_torch
from tests.bench.cases import CALIBRATED, Case, Labelled
from tests.unit.plugins.array_context import ArrayContext

STEPS, BATCH = 40, 16
_SMALL, _LARGE = 3e-5, 1e-3
"""learning rates: of all weights, of one layer alone"""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pair:
    """Two versions. ``kept``: the new one was made to stay near to the old one."""

    what: str
    old: bytes
    new: bytes
    kept: bool = False


def pairs(case: Case, folder: Path, precisions: Mapping[str, Mapping[str, Any]]) -> Iterator[Pair]:
    """What changes in the life of a model; ``precisions``: name -> parameters of quantize.static."""
    maker = _Maker(case, folder)
    old = to_onnx(to_torch(loaded := onnx.load(case.path)), loaded)
    tuned, plain = fine_tuned(old, case, _SMALL), maker.packed(old)
    yield Pair("one layer changed, fp32", plain, maker.packed(fine_tuned(old, case, _LARGE, last_only=True)))
    yield Pair("fine-tuned, fp32", plain, maker.packed(tuned))
    first, other = _calibrations(case)
    for name, params in precisions.items():
        delivered = maker.quantized(old, first, params)
        for what, model, samples in (("recalibrated", old, other), ("fine-tuned", tuned, other)):
            yield Pair(f"{what}, {name}", delivered, maker.quantized(model, samples, params))
            yield Pair(f"{what}, {name}", delivered, maker.quantized(model, samples, params, earlier=delivered), kept=True)


def fine_tuned(model: onnx.ModelProto, case: Case, rate: float, *, last_only: bool = False) -> onnx.ModelProto:
    """The model as the bridge writes it, after a few small steps of Adam, of its last weights alone or of all."""
    import torch

    torch.manual_seed(0)
    imported, data = to_torch(model), tuning_data(case)
    trained = [item for item in imported.module.parameters() if item.dim() > 1]
    optimiser = torch.optim.Adam(trained[-1:] if last_only else trained, rate)
    for rows in np.random.default_rng(0).permutation(len(data.labels))[: STEPS * BATCH].reshape(-1, BATCH):
        optimiser.zero_grad()
        answers = imported.module(torch.from_numpy(case.preprocess(data.samples[rows])))
        _loss(answers[0] if isinstance(answers, (tuple, list)) else answers, torch.from_numpy(data.labels[rows])).backward()
        optimiser.step()
    return to_onnx(imported, model)


def _loss(answers: Any, labels: Any) -> Any:
    """Cross-entropy, of scores or of probabilities."""
    from torch.nn.functional import cross_entropy, nll_loss

    probable = bool((answers >= 0).all() and (answers.sum(1) - 1).abs().max() < 1e-3)
    return nll_loss((answers + 1e-9).log(), labels) if probable else cross_entropy(answers, labels)


def tuning_data(case: Case) -> Labelled:
    """What fine-tuning looks at: the training samples, or where there are none, samples that ``judged`` leaves out."""
    if case.training is not None:
        return case.training
    data = case.test.every(0, 2)
    count = len(data.labels) // BATCH * BATCH
    return Labelled(data.samples[:count], data.labels[:count])


def judged(case: Case) -> Labelled:
    """Samples that nobody saw."""
    return case.test if case.training is not None else case.test.every(1, 2)


def _calibrations(case: Case) -> tuple[Array, Array]:
    """Two sets of samples that have none in common, of the same size where there are enough."""
    more = case.training.samples[CALIBRATED : 2 * CALIBRATED] if case.training is not None else case.evaluation.samples[1::2]
    return case.preprocess(case.calibration), case.preprocess(more[:CALIBRATED])


class _Maker:
    """Writes files as the host has them written."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._input, self._folder = case.input_name(), folder

    def packed(self, model: onnx.ModelProto) -> bytes:
        return OnnxRuntime().convert(model, self._context(None, {}))

    def quantized(self, model: onnx.ModelProto, samples: Array, params: Mapping[str, Any], earlier: bytes | None = None) -> bytes:
        named, artifacts = "", {}
        if earlier is not None:
            named = hashlib.sha256(earlier).hexdigest()
            artifacts[named] = self._folder / f"{named}.onnx"
            artifacts[named].write_bytes(earlier)
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        wanted = StaticParams(reduce_range=True, scales_of=named, **params)
        return self.packed(QuantizeStatic().apply(copy, wanted, self._context(samples, artifacts)))

    def _context(self, samples: Array | None, artifacts: dict[str, Path]) -> ArrayContext:
        arrays = {} if samples is None else {self._input: samples}
        return ArrayContext(arrays, scratch=self._folder, artifacts=artifacts)
