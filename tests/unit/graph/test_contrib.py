"""Shapes and arithmetic of onnxruntime's own operators, against what the runtime really makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.contrib import stand_in
from edge_compress.graph.facts import facts_of_model
from edge_compress.graph.shapes import tensor_types

Array = np.ndarray[Any, Any]
DRAW = np.random.default_rng(0)
F32, U8, I8 = np.float32, np.uint8, np.int8
S, Z8, Z = F32(0.1), U8(128), I8(0)
A, B, C, D, W = ("a", S), ("b", Z8), ("c", S), ("d", Z8), ("s", S)
"""scales and zero points under names that stay out of each other's way"""


def _model(
    op: str, inputs: list[tuple[str, Any]], outputs: int = 1, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """One node. Inputs named x… are fed, with a free first axis; others are stored; "" is left out."""
    feeds = {name: np.asarray(value) for name, value in inputs if name.startswith("x")}
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in inputs if name and not name.startswith("x")]
    node = helper.make_node(op, [name for name, _ in inputs], ["y", "z"][:outputs], domain="com.microsoft", **attributes)
    entries = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), ["N", *value.shape[1:]])
        for name, value in feeds.items()
    ]
    graph = helper.make_graph([node], "g", entries, [onnx.ValueInfoProto(name="y")], stored)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), feeds


def _floats(*shape: int) -> Array:
    return DRAW.standard_normal(shape).astype(F32)


def _bytes(kind: Any, *shape: int) -> Array:
    return DRAW.integers(0, 100, shape).astype(kind)


CASES: list[tuple[str, list[tuple[str, Any]], dict[str, Any], int]] = [
    ("MatMulNBits", [("x", _floats(1, 6, 40)), ("w", _bytes(U8, 24, 3, 8)), ("s", _floats(24, 3))],
     {"K": 40, "N": 24, "bits": 4, "block_size": 16}, 6 * 40 * 24),
    ("DynamicQuantizeMatMul", [("x", _floats(1, 6, 8)), ("w", _bytes(I8, 8, 5)), W, ("z", Z)], {}, 6 * 8 * 5),
    ("MatMulIntegerToFloat", [("x", _bytes(U8, 1, 6, 8)), ("w", _bytes(I8, 8, 5)), A, W, B, ("z", Z)], {}, 240),
    ("FusedMatMul", [("x", _floats(1, 6, 8)), ("w", _floats(5, 8))], {"transB": 1}, 6 * 8 * 5),
    ("FusedMatMul", [("x", _floats(1, 6, 8)), ("w", _floats(8, 5))], {"alpha": 0.5}, 6 * 8 * 5),
    ("FusedMatMul", [("x", _floats(1, 2, 6, 8)), ("xx", _floats(1, 2, 5, 8))], {"transB": 1}, 2 * 6 * 8 * 5),
    ("FusedGemm", [("x", _floats(1, 8)), ("w", _floats(5, 8)), ("b", _floats(5))], {"transB": 1, "activation": "Relu"}, 40),
    ("FusedConv", [("x", _floats(1, 3, 8, 8)), ("w", _floats(4, 3, 3, 3))],
     {"activation": "Relu", "pads": [1, 1, 1, 1], "strides": [2, 2]}, 4 * 16 * 27),
    ("QGemm", [("x", _bytes(U8, 1, 8)), A, B, ("w", _bytes(I8, 8, 5)), W, ("z", Z)], {}, 40),
    ("QLinearAdd", [("x", _bytes(U8, 1, 4, 5)), A, B, ("w", _bytes(U8, 4, 1)), W, ("z", Z8), C, D],
     {}, 0),
    ("QLinearSigmoid", [("x", _bytes(U8, 1, 4)), A, B, C, D], {}, 0),
    ("QLinearGlobalAveragePool", [("x", _bytes(U8, 1, 4, 6, 6)), A, B, C, D], {"channels_last": 0}, 0),
    ("QLinearAveragePool", [("x", _bytes(U8, 1, 4, 6, 6)), A, B, C, D],
     {"kernel_shape": [2, 2], "strides": [2, 2]}, 0),
    ("QLinearConcat", [C, D, ("x", _bytes(U8, 1, 4)), A, B, ("xx", _bytes(U8, 1, 3)), ("e", S), ("f", Z8)],
     {"axis": 1}, 0),
    ("Gelu", [("x", _floats(1, 7))], {}, 0),
    ("FastGelu", [("x", _floats(1, 7)), ("b", _floats(7))], {}, 0),
    ("SkipLayerNormalization", [("x", _floats(1, 4, 8)), ("xx", _floats(1, 4, 8)), ("g", _floats(8)), ("b", _floats(8))], {}, 0),
    ("Attention", [("x", _floats(1, 6, 8)), ("w", _floats(8, 24)), ("b", _floats(24))], {"num_heads": 2},
     6 * 8 * 24 + 2 * 6 * 6 * 8),
    ("MultiHeadAttention", [("x", _floats(1, 6, 8)), ("xk", _floats(1, 5, 8)), ("xv", _floats(1, 5, 8))], {"num_heads": 2},
     2 * 6 * 5 * 8),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes", "macs"), CASES, ids=[case[0] for case in CASES])
def test_shapes_and_types_are_the_runtimes(op: str, inputs: list[tuple[str, Any]], attributes: dict[str, Any], macs: int) -> None:
    model, feeds = _model(op, inputs, **attributes)
    found = tensor_types(model)["y"]
    assert facts_of_model(model, "0" * 64, 1).macs == macs
    session = onnxruntime.InferenceSession(_typed(model, found.elem_type), providers=["CPUExecutionProvider"])
    made = np.asarray(session.run(None, feeds)[0])
    assert found.shape == made.shape
    assert found.elem_type == helper.np_dtype_to_tensor_dtype(made.dtype)


def _typed(model: onnx.ModelProto, elem_type: int) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", elem_type, None))
    data: bytes = copy.SerializeToString()
    return data


def test_what_is_not_known_stays_unknown() -> None:
    for op, attributes in (
        ("NoSuchOperator", {}),
        ("MatMulNBits", {"bits": 4}),
        ("QLinearGlobalAveragePool", {"channels_last": 1}),
    ):
        assert stand_in(helper.make_node(op, ["x"], ["y"], domain="com.microsoft", **attributes)) is None
    assert stand_in(helper.make_node("Gelu", ["x"], ["y"], domain="example.org")) is None
    assert stand_in(helper.make_node("Gelu", [], ["y"], domain="com.microsoft")) is None
    assert stand_in(helper.make_node("QLinearAdd", ["x"], ["y"], domain="com.microsoft")) is None


def test_packed_weights_count_as_what_they_stand_for_and_no_lie_counts_more() -> None:
    for claimed, counted in ((40, 40 * 24), (2**40, 2 * 24 * 3 * 8)):
        attributes = {"K": claimed, "N": 24, "bits": 4, "block_size": 16}
        model, _ = _model(
            "MatMulNBits", [("x", _floats(1, 6, 40)), ("w", _bytes(U8, 24, 3, 8)), ("s", _floats(24, 3))], **attributes
        )
        assert facts_of_model(model, "0" * 64, 1).parameters == counted


def test_what_follows_a_stand_in_is_known_too() -> None:
    nodes = [
        helper.make_node("Gelu", ["x"], ["h"], domain="com.microsoft"),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(_floats(4, 3), "w")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    facts = facts_of_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), "0" * 64, 1)
    assert facts.macs == 12
    assert facts.peak_activation_bytes > 0
