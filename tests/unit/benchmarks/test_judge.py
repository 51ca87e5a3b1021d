"""The bench's own measurements, on models made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.bench import judge


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """Four classes by the identity, one sample at a time."""
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", shapes[:1], shapes[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "linear.onnx")
    return tmp_path / "linear.onnx"


def test_right_tells_which_samples_are(linear: Path) -> None:
    inputs = np.eye(4, dtype=np.float32)
    assert judge.right(linear, inputs, np.array([0, 1, 2, 0])).tolist() == [True, True, True, False]


def test_drop_is_paired() -> None:
    before = np.array([True] * 90 + [False] * 10)
    after = before.copy()
    after[:3], after[95] = False, True
    lost = judge.drop(before, after)
    assert lost.points == pytest.approx(2.0)
    # Four samples of a hundred differ: variance of the mean is (4/100 - 0.02^2) / 99.
    assert lost.margin == pytest.approx(196 * ((0.04 - 0.02**2) / 99) ** 0.5)


def test_equal_answers_have_no_margin() -> None:
    before = np.array([True, False, True])
    assert judge.drop(before, before) == judge.Drop(0.0, 0.0)


def test_sizes_count_chunks_and_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(2_000_000))
    size = judge.sizes(path)
    assert size.disk == 2_000_000
    assert size.zstd19 < size.download < 2_000


def test_latencies_are_of_every_file(linear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SECONDS_OF_TIMING", 0.1)
    taken = judge.latencies({"a": linear, "b": linear}, np.eye(4, dtype=np.float32))
    assert set(taken) == {"a", "b"}
    assert 0 < taken["a"] < 10 * taken["b"] < 100 * taken["a"]
