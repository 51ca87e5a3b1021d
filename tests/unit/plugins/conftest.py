"""A context as the host lends it, without data, for plugins tested on their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest

from edge_compress.plugin import Batch, Limits


@dataclass
class LoneContext:
    """Keeps what was logged; lends no samples unless given some."""

    scratch: Path
    samples: list[Batch] = field(default_factory=list)
    seed: int = 0
    limits: Limits = Limits(seconds=60, memory_bytes=2**30, threads=1)
    lines: list[str] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)

    def seconds_left(self) -> float:
        return 60.0

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        if not self.samples:
            raise LookupError("there are no calibration samples")
        yield from self.samples

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        raise LookupError("there are no training samples")

    def teacher(self) -> onnx.ModelProto:
        raise LookupError("there is no teacher")

    def progress(self, fraction: float, message: str = "") -> None:
        assert 0 <= fraction <= 1

    def log(self, message: str) -> None:
        self.lines.append(message)

    def cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


@pytest.fixture
def context(tmp_path: Path) -> LoneContext:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return LoneContext(scratch)
