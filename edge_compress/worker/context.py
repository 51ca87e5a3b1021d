"""The ``Context`` that a strategy gets in its child process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_compress.errors import InvalidData
from edge_compress.graph.check import load_checked
from edge_compress.plugin.strategy import Batch
from edge_compress.worker.frame import DataSource, Frame
from edge_compress.worker.keeping import KEPT

if TYPE_CHECKING:
    import onnx


class StepContext:
    """Lends data, the teacher, a seed and scratch space; see ``plugin.strategy.Context`` for what each means."""

    def __init__(
        self,
        frame: Frame,
        *,
        seed: int,
        teacher: Path,
        calibration: DataSource | None,
        training: DataSource | None,
        kept: Mapping[str, str] | None = None,
        artifacts: Mapping[str, str] | None = None,
    ) -> None:
        self.seed = seed
        self.scratch = frame.scratch / "strategy"
        self.scratch.mkdir()
        self.limits = frame.limits
        self._started = time.monotonic()
        self._reporter = frame.reporter
        self._fresh = frame.scratch / KEPT
        self._kept = {name: Path(path) for name, path in (kept or {}).items()}
        self._artifacts = {sha256: Path(path) for sha256, path in (artifacts or {}).items()}
        self._teacher = teacher
        self._calibration = calibration
        self._training = training or calibration

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        """At most ``limit`` calibration samples in file order."""
        if self._calibration is None:
            raise InvalidData("spec.data.calibration: there are no calibration samples")
        yield from self._calibration.open().batches(batch_size, limit=limit)

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        """One shuffled pass over the training samples."""
        if self._training is None:
            raise InvalidData("spec.data.training: there are no training samples")
        yield from self._training.open().shuffled(batch_size, seed=self.seed, epoch=epoch)

    def teacher(self) -> onnx.ModelProto:
        """The user's original model."""
        return load_checked(self._teacher)

    def artifact(self, sha256: str) -> Path:
        """The file of an artifact that a parameter of this step names."""
        if sha256 not in self._artifacts:
            raise InvalidData(f"no parameter of this step names the artifact {sha256[:12] or 'of no digest'}")
        return self._artifacts[sha256]

    def seconds_left(self) -> float:
        """Until the step's time ends, which began when its process was ready."""
        return self.limits.seconds - (time.monotonic() - self._started)

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell the parent, which ends this process when somebody cancelled."""
        self._reporter.progress(fraction, message)

    def log(self, message: str) -> None:
        """A line for the candidate's record."""
        print(message, flush=True)

    def cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        """What an earlier step kept under this key, else what ``make`` gives, kept for later ones."""
        name = hashlib.sha256(key.encode()).hexdigest()
        if name not in self._kept:
            self._fresh.mkdir(exist_ok=True)
            self._kept[name] = self._fresh / name
            self._kept[name].write_bytes(make())
        return self._kept[name].read_bytes()
