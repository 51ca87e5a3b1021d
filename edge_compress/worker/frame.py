"""What a task in a child process is given besides its arguments: a scratch folder, limits, and a way to say how far it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_compress.domain.model import TensorFacts
from edge_compress.domain.schema import decode
from edge_compress.domain.spec import Preprocess
from edge_compress.graph.samples import Samples
from edge_compress.plugin.strategy import Limits


class Reporter:
    """Writes progress to the parent, one JSON line an event."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def progress(self, fraction: float, message: str = "") -> None:
        """``fraction`` from 0 to 1."""
        line = json.dumps({"fraction": float(fraction), "message": str(message)}) + "\n"
        os.write(self._fd, line.encode())


@dataclass(frozen=True)
class Frame:
    """Where a task runs and under which limits."""

    scratch: Path
    reporter: Reporter
    limits: Limits


@dataclass(frozen=True)
class DataSource:
    """A data file and how it becomes model inputs."""

    path: Path
    role: str
    inputs: tuple[TensorFacts, ...]
    preprocess: Preprocess

    @staticmethod
    def read(plain: dict[str, Any]) -> DataSource:
        """From the JSON-ready form that the engine sends."""
        inputs = tuple(decode(TensorFacts, item, "inputs") for item in plain["inputs"])
        return DataSource(Path(plain["path"]), plain["role"], inputs, decode(Preprocess, plain["preprocess"], "preprocess"))

    def open(self) -> Samples:
        """The samples. Raises InvalidData."""
        return Samples.open(self.path, self.inputs, self.preprocess, role=self.role)

    def feeds(self, count: int) -> list[dict[str, Any]]:
        """The first ``count`` samples, each as a batch of one (or of the model's fixed batch)."""
        return [dict(batch.inputs) for batch in self.open().batches(1, limit=count)]
