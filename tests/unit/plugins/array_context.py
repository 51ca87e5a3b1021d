"""A strategy's context over arrays in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_compress.plugin import Batch, Limits

Array = np.ndarray[Any, Any]


class ArrayContext:
    """Lends ``arrays`` (model input -> samples first) as calibration and training data, and keeps what it is told."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        *,
        scratch: Path,
        teacher: onnx.ModelProto | None = None,
        fixed_batch: bool = False,
        artifacts: Mapping[str, Path] | None = None,
    ) -> None:
        self.seed = 0
        self.scratch = scratch
        self.limits = Limits(seconds=60, memory_bytes=1 << 30, threads=1)
        self.logged: list[str] = []
        self.fractions: list[float] = []
        self.largest_batch = 0
        self.kept: dict[str, bytes] = {}
        self._artifacts = dict(artifacts or {})
        self._arrays, self._teacher, self._fixed = arrays, teacher, fixed_batch

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        count = min(limit, len(next(iter(self._arrays.values()))))
        step = 1 if self._fixed else batch_size
        for start in range(0, count, step):
            self.largest_batch = max(self.largest_batch, min(step, count - start))
            yield Batch({name: values[start : min(count, start + step)] for name, values in self._arrays.items()})

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        yield from self.calibration(batch_size)

    def teacher(self) -> onnx.ModelProto:
        assert self._teacher is not None
        return self._teacher

    def artifact(self, sha256: str) -> Path:
        return self._artifacts[sha256]

    def seconds_left(self) -> float:
        return self.limits.seconds

    def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def log(self, message: str) -> None:
        self.logged.append(message)

    def cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]
