"""Which means become pooling, and that they say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_graph.averages import pooled
from edge_compress_graph.optimize import GraphOptimize, OptimizeParams
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.bridge.parity import run_onnx
from tests.unit.plugins.array_context import ArrayContext

SAMPLES = {"x": np.random.default_rng(0).normal(size=(5, 3, 6, 7)).astype(np.float32)}


def mean(axes: tuple[int, ...], *, keepdims: int, opset: int) -> onnx.ModelProto:
    stored, given, attributes = [], ["x"], {"keepdims": keepdims}
    if opset >= 18:
        stored, given = [numpy_helper.from_array(np.array(axes), "axes")], ["x", "axes"]
    node = helper.make_node("ReduceMean", given, ["y"], **attributes, **({} if stored else {"axes": axes}))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 7])
    rank = 4 if keepdims else 4 - len(axes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    graph = helper.make_graph([node], "mean", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
@pytest.mark.parametrize(("keepdims", "ops"), [(1, ["GlobalAveragePool"]), (0, ["GlobalAveragePool", "Flatten"])])
def test_a_mean_over_all_pixels_is_pooling(opset: int, axes: Any, keepdims: int, ops: list[str]) -> None:
    model = mean(axes, keepdims=keepdims, opset=opset)
    made = pooled(model)
    assert [node.op_type for node in made.graph.node] == ops
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(run_onnx(made, SAMPLES)[0], run_onnx(model, SAMPLES)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2, 3)])
def test_other_means_stay(axes: Any) -> None:
    model = mean(axes, keepdims=1, opset=18)
    assert pooled(model) is model


def test_the_strategy_does_it(tmp_path: Any) -> None:
    context = ArrayContext(SAMPLES, scratch=tmp_path)
    made = GraphOptimize().apply(mean((2, 3), keepdims=1, opset=18), OptimizeParams(), context)
    assert [node.op_type for node in made.graph.node] == ["GlobalAveragePool"]
    assert not made.graph.initializer
