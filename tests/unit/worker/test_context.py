"""What a step is lent beside data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_compress.errors import InvalidData
from edge_compress.plugin import Limits
from edge_compress.worker.context import StepContext
from edge_compress.worker.frame import Frame, Reporter


def test_only_artifacts_that_parameters_name_are_lent(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    frame = Frame(tmp_path / "scratch", Reporter(os.open(os.devnull, os.O_WRONLY)), Limits(1.0, 2**20, 1))
    named = {"a" * 64: str(tmp_path / "a.onnx")}
    context = StepContext(frame, seed=0, teacher=tmp_path, calibration=None, training=None, artifacts=named)
    assert context.artifact("a" * 64) == tmp_path / "a.onnx"
    for other in ("b" * 64, "", "../a.onnx"):
        with pytest.raises(InvalidData, match="no parameter of this step"):
            context.artifact(other)
