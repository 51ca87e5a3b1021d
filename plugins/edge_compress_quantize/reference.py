"""The float model's outputs on some samples, and how far another model's outputs are from them. Needs no labels.

Noise over signal: squared error over the squared deviation of an output from its mean over the samples (what every sample has in
common tells nothing), averaged over the outputs; in decibels, the signal-to-quantisation-noise ratio (SQNR; Lin, Talathi,
Annapureddy 2016, arXiv:1511.06393). Agreement: the share of samples whose highest output is the same, for outputs with one row a
sample; how much noise a network bears depends on how near its classes are, and agreement tells.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edge_compress.plugin import Context
from edge_compress_quantize.canonical import quiet_options

Array = np.ndarray[Any, Any]

_KEPT_BYTES = 192 << 20
"""inputs of all samples together"""
_BATCH = 8
_TELLING = 64
"""samples; agreement over fewer is left to chance"""
_NEARLY = 2.0
"""dB below the best there is"""
_BORNE = 6.0
"""dB of noise that agreement makes up for at most"""


@dataclass(frozen=True)
class Distance:
    """How far outputs are from the float model's. ``agreement`` is None where outputs are no scores or samples are few."""

    noise: float
    agreement: float | None = None

    @property
    def decibels(self) -> float:
        """Signal over noise."""
        if self.noise == 0:
            return math.inf
        return -math.inf if math.isinf(self.noise) else -10 * math.log10(self.noise)

    def __str__(self) -> str:
        agreement = "" if self.agreement is None else f" and {self.agreement:.1%} agreement"
        return f"{self.decibels:.1f} dB of signal to noise{agreement}"


@dataclass(frozen=True)
class Goal:
    """What outputs must reach: ``decibels``, or ``agreement`` with a little less."""

    decibels: float
    agreement: float

    def met(self, distance: Distance) -> bool:
        """Whether a model is near enough."""
        if distance.decibels >= self.decibels:
            return True
        agrees = distance.agreement is not None and distance.agreement >= self.agreement
        return agrees and distance.decibels >= self.decibels - _BORNE

    def eased(self, best: Distance) -> Goal:
        """This goal, or a little less than ``best`` where that misses it by no more than agreement may make up for."""
        if self.met(best) or best.decibels < self.decibels - _BORNE:
            return self
        agreement = self.agreement if best.agreement is None else min(self.agreement, best.agreement)
        return replace(self, decibels=best.decibels - _NEARLY, agreement=agreement)

    def __str__(self) -> str:
        return f"{self.decibels:.3g} dB"


class Reference:
    """The last ``samples`` of the first ``among`` calibration samples with the float outputs of ``model``; fewer where they would
    fill memory. The last, because what is judged here was fitted to the first."""

    def __init__(self, model: onnx.ModelProto, context: Context, *, samples: int, among: int) -> None:
        self._threads = context.limits.threads
        self._fed = _last(context, samples, among)
        runner = self._session(model)
        self._wanted = [[np.asarray(value) for value in runner.run(None, dict(inputs))] for inputs in self._fed]

    def distance(self, model: onnx.ModelProto, *, samples: int | None = None) -> Distance:
        """How far ``model`` is over all samples, or the first batches that hold ``samples``."""
        runner = self._session(model)
        got: list[list[Array]] = []
        seen = 0
        for inputs in self._fed:
            got.append([np.asarray(value) for value in runner.run(None, dict(inputs))])
            seen += len(next(iter(inputs.values())))
            if samples is not None and seen >= samples:
                break
        columns = list(zip(_columns(self._wanted[: len(got)]), _columns(got), strict=True))
        shares = [share for wanted, made in columns if (share := _noise(wanted, made)) is not None]
        same = [share for wanted, made in columns if (share := _agreement(wanted, made)) is not None]
        return Distance(sum(shares) / len(shares) if shares else 0.0, min(same) if same and seen >= _TELLING else None)

    def _session(self, model: onnx.ModelProto) -> ort.InferenceSession:
        options = quiet_options(self._threads)
        options.enable_cpu_mem_arena = False
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _last(context: Context, samples: int, among: int) -> list[Mapping[str, Array]]:
    """The inputs of the last whole batches that hold ``samples`` or a little more, and fit memory."""
    kept: deque[tuple[int, int, Mapping[str, Array]]] = deque()
    for batch in context.calibration(batch_size=_BATCH, limit=among):
        kept.append((len(batch), sum(value.nbytes for value in batch.inputs.values()), batch.inputs))
        while len(kept) > 1 and (
            sum(item[0] for item in kept) - kept[0][0] >= samples or sum(item[1] for item in kept) > _KEPT_BYTES
        ):
            kept.popleft()
    return [inputs for _, _, inputs in kept]


def _columns(rows: list[list[Array]]) -> list[list[Array]]:
    """Each output's values over the batches."""
    return [list(column) for column in zip(*rows, strict=True)]


def _noise(wanted: list[Array], got: list[Array]) -> float | None:
    """Noise over signal of one output; None where it is no number or always zero."""
    if wanted[0].dtype.kind not in "fiub":
        return None
    if any(a.shape != b.shape or not np.isfinite(b).all() for a, b in zip(wanted, got, strict=True)):
        return math.inf
    signal = _deviation(wanted)
    error = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(wanted, got, strict=True))
    return error / signal if signal else None


def _deviation(parts: list[Array]) -> float:
    """Squared deviation from the mean over samples; the plain square where samples do not compare or nothing varies."""
    if parts[0].ndim and len({part.shape[1:] for part in parts}) == 1:
        rows = np.concatenate(parts).astype(np.float64)
        spread = float(np.square(rows - rows.mean(axis=0)).sum())
        if spread:
            return spread
    return float(sum(np.square(part, dtype=np.float64).sum() for part in parts))


def _agreement(wanted: list[Array], got: list[Array]) -> float | None:
    """Share of rows with the same highest column; None where an output has no columns to choose from."""
    if wanted[0].dtype.kind != "f" or wanted[0].ndim != 2 or wanted[0].shape[1] < 2:
        return None
    if any(a.shape != b.shape for a, b in zip(wanted, got, strict=True)):
        return 0.0
    same = [a.argmax(axis=1) == b.argmax(axis=1) for a, b in zip(wanted, got, strict=True)]
    return float(np.concatenate(same).mean())
