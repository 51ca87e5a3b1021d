"""Runs a strategy on a network as the worker would, with its real context and target, and tells how far the result is off.

What counts as a clear refusal is said here, and how close each kind of strategy must stay; which networks is left to the tests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import linecache
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_compress.domain.model import ModelFacts
from edge_compress.domain.spec import DeviceProfileSpec, Preprocess
from edge_compress.errors import EdgeCompressError
from edge_compress.graph.check import parse_checked
from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import Limits, Strategy
from edge_compress.plugin.registry import Registry
from edge_compress.worker.asking import missing
from edge_compress.worker.context import StepContext
from edge_compress.worker.frame import DataSource, Frame, Reporter
from tests.property.building import Network

Array = np.ndarray[Any, Any]

PROFILE = DeviceProfileSpec(memory=64 * 2**20, storage=2**20, precisions=("fp32", "fp16", "int8"))
SECONDS = 2.0
"""what a strategy that trains may take for a network"""
LITTLE: dict[str, Any] = {"epochs": 1, "samples": 16, "smallest": 16, "round_to": 1}
"""parameters of that name that make a strategy work longer, or leave small layers alone, and what is right here"""
CLOSE: dict[str, float] = {"graph.optimize": 1e-4, "quantize.float16": 0.05, "quantize.weights": 0.1, "quantize.dynamic": 0.3}
"""largest error, as a share of an output's deviation, of strategies that promise more than a finite answer"""
ANY = 1e3
NOBODY = Reporter(os.open(os.devnull, os.O_WRONLY))


class Refused(Exception):
    """The strategy does not apply and says why."""


@dataclass(frozen=True)
class Made:
    """What a strategy made: ``error`` is the largest of any output, as a share of that output's deviation over the samples."""

    params: Any
    facts: ModelFacts
    bytes: int
    sha256: str
    error: float
    allowed: float


class Bench:
    """One network with its samples in a file, ready for any strategy."""

    def __init__(self, registry: Registry, network: Network, folder: Path) -> None:
        self._folder, self._network = folder, network
        self._target = registry.target(PROFILE.runtime)
        data = network.model.SerializeToString(deterministic=True)
        self._model = parse_checked(data)
        self.facts = facts_of_model(self._model, hashlib.sha256(data).hexdigest(), len(data))
        (folder / "teacher.onnx").write_bytes(data)
        labels = np.arange(len(next(iter(network.samples.values())))) % 5
        np.savez(folder / "data.npz", **network.samples, **({} if "y" in network.samples else {"y": labels}))
        self._source = DataSource(folder / "data.npz", "calibration", self.facts.inputs, Preprocess())
        packed = self._packed(self._model, "original")
        self.packed_bytes = packed.stat().st_size
        self._wanted = self._answers(packed)

    def made(self, strategy: Strategy[Any], which: int) -> Made:
        """What its proposal number ``which`` (modulo how many there are) gives. Raises Refused where it says no."""
        params = self._params(strategy, which)
        try:
            changed = strategy.apply(parse_checked((self._folder / "teacher.onnx").read_bytes()), params, self._context())
        except Exception as error:
            if not is_clear(error):
                raise
            raise Refused(str(error)) from error
        data = changed.SerializeToString(deterministic=True)
        parse_checked(data)
        path = self._packed(changed, "changed")
        packed = path.read_bytes()
        parse_checked(packed)
        facts = facts_of_model(onnx.ModelProto.FromString(packed), hashlib.sha256(packed).hexdigest(), len(packed))
        error = max(map(_error, self._wanted, self._answers(path)))
        return Made(params, facts, len(packed), facts.sha256, error, _allowed(strategy, params))

    def _params(self, strategy: Strategy[Any], which: int) -> Any:
        why = missing(strategy.requires, PROFILE, self.facts, frozenset({"calibration", "training", "labels"}))
        support = strategy.supports(self.facts, PROFILE)
        if why or not support.ok:
            assert why or support.reason, "it says no without a reason"
            raise Refused(why or support.reason)
        proposed = list(strategy.propose(self.facts, PROFILE)) or [strategy.Params()]
        params = strategy.bind(proposed[which % len(proposed)], PROFILE)
        names = {item.name for item in dataclasses.fields(params)}
        strategy.expect(self.facts, params)
        if "schedule" in names:
            params = dataclasses.replace(params, schedule=dataclasses.replace(params.schedule, epochs=LITTLE["epochs"]))
        return dataclasses.replace(params, **{name: value for name, value in LITTLE.items() if name in names})

    def _context(self) -> StepContext:
        number = len(list(self._folder.glob("frame*")))
        scratch = self._folder / f"frame{number}"
        scratch.mkdir()
        frame = Frame(scratch, NOBODY, Limits(SECONDS, 2**31, 1))
        teacher = self._folder / "teacher.onnx"
        return StepContext(frame, seed=0, teacher=teacher, calibration=self._source, training=self._source)

    def _packed(self, model: onnx.ModelProto, name: str) -> Path:
        path = self._folder / f"{name}.onnx"
        path.write_bytes(self._target.convert(model, self._context()))
        return path

    def _answers(self, path: Path) -> list[Array]:
        runner = self._target.open(path, threads=1)
        rows = [[np.asarray(made) for made in runner.run(batch.inputs)] for batch in self._source.open().batches(8)]
        return [np.stack(column) for column in zip(*rows, strict=True)]


def is_clear(error: Exception) -> bool:
    """Whether a strategy raised this on purpose: an error of ours, or a ValueError from a ``raise`` in our own code."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = "edge_compress" in last.filename and linecache.getline(last.filename, last.lineno or 0).strip().startswith("raise ")
    return bool(str(error)) and (isinstance(error, EdgeCompressError) or (type(error) is ValueError and ours))


def first_difference(before: ModelFacts, after: ModelFacts) -> str:
    """What is not the same about the inputs and outputs; free axes may have any name."""
    for what in ("inputs", "outputs"):
        old, new = ([(item.name, item.dtype, _axes(item.shape)) for item in getattr(facts, what)] for facts in (before, after))
        if old != new:
            return f"{what}: {old} became {new}"
    return ""


def _axes(shape: Any) -> list[Any]:
    return [axis if isinstance(axis, int) else "free" for axis in shape]


def _error(wanted: Array, got: Array) -> float:
    """Root of the mean squared error over the output's deviation; for other types than floats, whether shapes are kept."""
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if wanted.dtype.kind != "f":
        return 0.0
    assert np.isfinite(got).all(), "it computes NaN or infinity"
    size = max(float(wanted.std()), 0.05 * float(np.abs(wanted).max(initial=0)), 1e-6)
    return float(np.sqrt(np.mean((got - wanted) ** 2))) / size


def _allowed(strategy: Strategy[Any], params: Any) -> float:
    if strategy.ensures.lossless:
        return 1e-4
    few = getattr(params, "bits", 8) < 8
    if strategy.name == "quantize.static":
        return 1.0 if few or params.mixed else 0.5
    return ANY if few else CLOSE.get(strategy.name, ANY)
