"""How fast a model trains on this machine: the beginning of a training of the model by itself, timed.

What is planned with it is left to ``pace``.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import onnx

from edge_compress.graph.batch import Batch
from edge_compress.graph.bridge.importer import import_model
from edge_compress.graph.bridge.maps import stage_maps
from edge_compress.graph.bridge.norms import unfold
from edge_compress.graph.bridge.pace import batch_within
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.graph.bridge.training import Course, Limit, fine_tune

_BATCH, _BATCHES = 64, 8
_WARM_UP, _FEWEST = 2, 3
"""steps that do not count, and how many must"""
_CAUTION = 0.85
"""share of the measured speed that counts: other cores were idle, and will not be"""
_GRADES = 2
"""speeds told apart in a doubling"""
_FOR_EVER = 1e6


class _Limits(Limit, Protocol):
    @property
    def memory_bytes(self) -> int:
        """Of the whole process."""


class _Enough(Exception):
    """Ends a rehearsal."""


def training_speed(
    model: onnx.ModelProto, batches: Callable[[int], Iterator[Batch]], macs: float, limits: _Limits, seconds: float
) -> float:
    """Multiply-accumulates a second and thread that training ``model`` as its own student makes, teacher included.

    Rounded down to powers of the square root of 2, so that a machine tells the same each time unless it lies near one.
    ``batches`` gives samples in batches of a size; ``macs``: of one sample forward; ``seconds``: about what the measuring takes.
    Raises Unsupported where the bridge cannot take the model, ValueError where its answers teach nothing.
    """
    imported, teacher = import_model(model), Teacher(model)
    few = teacher.tensors(next(batches(2)).inputs)
    size = batch_within(limits.memory_bytes, _BATCH, imported.module, few) if imported.free_batch else len(few[0])
    features = stage_maps(imported.module, model)
    unfold(imported.module, [few])
    watch = _Stopwatch(batches, limits, seconds)
    with contextlib.suppress(_Enough):
        fine_tune(imported.module, model, watch, Course(epochs=1e6, batch=size, lr=1e-6, features=features))
    return graded(_CAUTION * 4 * macs * size / watch.seconds_of_a_step / max(1, limits.threads))


def graded(speed: float) -> float:
    """The nearest power of the square root of 2 that is not above it."""
    return 2.0 ** (math.floor(_GRADES * math.log2(speed)) / _GRADES) if speed > 0 else 0.0


class _Stopwatch:
    """A ``Lender`` of a few batches, again and again, that times the steps and ends them."""

    def __init__(self, batches: Callable[[int], Iterator[Batch]], limits: Limit, seconds: float) -> None:
        self.seed, self.limits = 0, limits
        self._batches, self._seconds = batches, seconds
        self._times: list[float] = []

    @property
    def seconds_of_a_step(self) -> float:
        """The median, without the first steps."""
        return statistics.median(after - before for before, after in itertools.pairwise(self._times[_WARM_UP:]))

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        """The same few."""
        return self.training(batch_size)

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        """A few batches."""
        return itertools.islice(self._batches(batch_size), _BATCHES)

    def seconds_left(self) -> float:
        """More than it takes."""
        return _FOR_EVER

    def progress(self, fraction: float, message: str = "") -> None:
        """Note the time; raises when there were enough steps."""
        self._times.append(time.monotonic())
        steps = len(self._times) - 1 - _WARM_UP
        if steps >= _FEWEST and self._times[-1] - self._times[0] > self._seconds:
            raise _Enough

    def log(self, message: str) -> None:
        """Nothing to tell."""
