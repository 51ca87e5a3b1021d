"""Time per layer by onnxruntime's profiler: fused kernels go to the layers they hold, and nothing is counted twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edge_compress_onnxruntime.profile import attributed, numbered, origin_of
from edge_compress_onnxruntime.target import OnnxRuntime
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.facts import facts_of


def residual() -> onnx.ModelProto:
    """Conv -> Relu -> Conv -> Add with the first -> Relu -> pool -> MatMul + bias -> Softmax, no node named."""
    draw = np.random.default_rng(0)
    weights = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "fc": (16, 10), "bias": (10,)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"]),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "fc"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32), name) for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_every_layer_with_arithmetic_has_its_time(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(residual().SerializeToString())
    feed = {"x": np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    found = OnnxRuntime().layer_seconds(path, 1, [feed], 0.05)
    worked = [layer.name for layer in facts_of(path).layers if layer.macs]
    assert set(found) == {*worked, ""}, "the bias has no kernel of its own: it is fused"
    assert found["c2"] > found["m"], "sixteen channels of 32 x 32 against one small product"
    assert all(0 <= value < 1 for value in found.values())
    assert list(tmp_path.iterdir()) == [path], "the profiler's file is gone"


def test_layers_fused_into_one_kernel_share_its_time_by_their_arithmetic() -> None:
    nodes = [helper.make_node("Op", [f"v{at}"], [f"v{at + 1}"]) for at in range(5)]
    places = {0: "first", 1: "second", 2: "bias", 4: "last"}
    macs = {"first": 300, "second": 100, "bias": 0, "last": 7}
    shares, rest = attributed(nodes, places, macs, {3: 0.8, 4: 0.1, -1: 0.05})
    assert shares == pytest.approx({"first": 0.6, "second": 0.2, "last": 0.1})
    assert rest == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("kernel", "origin"),
    [
        ("n5__token_0_kernel_time", 5),
        ("n22_/MatMulAddFusion_kernel_time", 22),
        ("v8_0__nchwc_kernel_time", 8),
        ("InsertedPrecisionFreeCast_v21_0__nchwc_kernel_time", 21),
        ("Transpose_token_31_kernel_time", -1),
        ("ReorderOutput_kernel_time", -1),
    ],
)
def test_a_kernels_name_tells_the_node_it_stems_from(kernel: str, origin: int) -> None:
    assert origin_of(kernel) == origin


def test_numbering_reaches_into_subgraphs_and_changes_no_answer() -> None:
    body = helper.make_graph(
        [helper.make_node("Mul", ["h", "h"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["h"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Neg", ["x"], ["h"], name="mine"),
        helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]), helper.make_tensor_value_info("yes", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    import onnxruntime

    feed = {"x": np.array([1, 2, 3], np.float32), "yes": np.array(True)}
    session = onnxruntime.InferenceSession(numbered(model).SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, feed)[0].tolist() == [1, 4, 9]
    assert model.graph.node[0].name == "mine"
