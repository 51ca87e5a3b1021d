"""What is fitted and what judges are different samples, as many as there are and may be held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from edge_compress_prune.questions import Questions, joined
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.bridge.parity import run_onnx
from tests.unit.plugins.array_context import ArrayContext


def line() -> onnx.ModelProto:
    """(N, 2) -> (N, 3)."""
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def asked(path: Path, count: int) -> tuple[Questions, Any]:
    values = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    return Questions.ask(ArrayContext({"x": values}, scratch=path, teacher=line())), values


@pytest.mark.parametrize(("count", "fitted", "judged"), [(64, 32, 32), (200, 128, 72), (512, 320, 192)])
def test_three_fifths_fit_and_the_others_judge(tmp_path: Path, count: int, fitted: int, judged: int) -> None:
    questions, _ = asked(tmp_path, count)
    assert [sum(len(batch[0]) for batch in part) for part in (questions.fit, questions.judge)] == [fitted, judged]
    rows = {tuple(row) for batch in questions.fit for row in batch[0].tolist()}
    assert not rows & {tuple(row) for batch in questions.judge for row in batch[0].tolist()}


def test_one_batch_does_both(tmp_path: Path) -> None:
    questions, _ = asked(tmp_path, 5)
    assert torch.equal(questions.fit[0][0], questions.judge[0][0])


def test_the_originals_answers_stand_beside_them(tmp_path: Path) -> None:
    questions, _ = asked(tmp_path, 100)
    for batches, told in ((questions.fit, questions.told), (questions.judge, questions.told_judges)):
        want = run_onnx(line(), {"x": torch.cat([batch[0] for batch in batches]).numpy()})[0]
        np.testing.assert_allclose(joined(told)[0].numpy(), want, rtol=1e-6)
    assert questions.answers[0].kind == "scores"
