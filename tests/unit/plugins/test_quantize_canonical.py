"""The one form that quantisers read: what the runtime folds must not hide from them what integers could multiply."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from edge_compress_quantize.canonical import canonical
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from onnx import TensorProto, helper, numpy_helper

from tests.unit.plugins.array_context import ArrayContext

DRAW = np.random.default_rng(0)


def shortcut() -> onnx.ModelProto:
    """y = x @ w + relu(x @ v): the runtime makes a Gemm of the first product and the sum."""
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["kept"]),
        helper.make_node("MatMul", ["x", "w"], ["product"], name="late"),
        helper.make_node("Add", ["product", "kept"], ["y"]),
    ]
    draw = np.random.default_rng(1)
    weights = [numpy_helper.from_array(draw.standard_normal((8, 16)).astype(np.float32), name) for name in "vw"]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, size]) for name, size in (("x", 8), ("y", 16))]
    graph = helper.make_graph(nodes, "shortcut", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: np.ndarray = session.run(None, {"x": x})[0]
    return made


def test_a_bias_that_is_computed_is_added_apart(tmp_path: Path) -> None:
    model, x = shortcut(), DRAW.standard_normal((4, 8)).astype(np.float32)
    folded = canonical(model, tmp_path)
    constants = {item.name for item in folded.graph.initializer}
    products = [node for node in folded.graph.node if node.op_type in ("Gemm", "MatMul")]
    assert len(products) == 2
    assert all(set(node.input[1:]) <= constants for node in products)
    np.testing.assert_allclose(answers(folded, x), answers(model, x), rtol=1e-5, atol=1e-5)


def test_so_both_products_run_in_integers(tmp_path: Path) -> None:
    model, samples = shortcut(), DRAW.standard_normal((4, 8)).astype(np.float32)
    context = ArrayContext({"x": samples}, scratch=tmp_path)
    made = QuantizeStatic().apply(shortcut(), StaticParams(), context)
    assert any(line.startswith("100.0% of the weights") for line in context.logged)
    assert np.abs(answers(made, samples) - answers(model, samples)).max() < 0.3
