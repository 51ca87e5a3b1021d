"""How fast a model trains here."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from onnx import helper

from edge_compress.graph.batch import Batch
from edge_compress.graph.bridge import Unsupported
from edge_compress.graph.bridge.rehearsal import graded, training_speed
from edge_compress.plugin import Limits
from tests.unit.graph.bridge.small_models import floats, model_of

LIMITS = Limits(seconds=60, memory_bytes=1 << 30, threads=1)


def scorer(batch: int | None = None, op: str = "Relu"):
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], name="hidden"),
        helper.make_node(op, ["h"], ["r"], name="bend"),
        helper.make_node("Gemm", ["r", "v"], ["y"], name="score"),
    ]
    return model_of(nodes, {"x": floats(batch or 3, 8)}, ["y"], {"w": floats(8, 16), "v": floats(16, 4, seed=2)})


def batches(size: int) -> Iterator[Batch]:
    for start in range(0, 64, size):
        yield Batch({"x": floats(64, 8, seed=5)[start : start + size]})


def test_it_tells_a_power_of_the_square_root_of_two() -> None:
    found = training_speed(scorer(), batches, 192.0, LIMITS, 0.1)
    assert found > 1000
    assert 2 * math.log2(found) == pytest.approx(round(2 * math.log2(found)))


def test_what_has_no_trainable_form_is_refused() -> None:
    with pytest.raises(Unsupported):
        training_speed(scorer(op="Det"), batches, 192.0, LIMITS, 0.1)


def test_grades_lie_below_what_was_measured() -> None:
    assert graded(0.0) == 0.0
    assert graded(4.1) == graded(5.6) == 4.0
    assert graded(5.7) == pytest.approx(32**0.5)
