"""Facts of models, against figures reckoned by hand and against what onnxruntime really computes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_compress.domain.model import ModelFacts, TensorFacts
from edge_compress.errors import InvalidModel
from edge_compress.graph.facts import facts_of, facts_of_model

Save = Callable[[onnx.ModelProto | bytes], Path]


def _model(
    nodes: list[onnx.NodeProto], x: list[Any], opset: int = 17, y: list[Any] | None = None, **weights: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _facts(model: onnx.ModelProto) -> ModelFacts:
    return facts_of_model(model, "0" * 64, model.ByteSize())


def _zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def test_a_file_and_its_facts(conv_model: onnx.ModelProto, saved: Save) -> None:
    path = saved(conv_model)
    facts = facts_of(path)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (facts.bytes, facts.opset) == (path.stat().st_size, 17)
    assert facts.inputs == (TensorFacts("x", "float32", ("N", 3, 8, 8)),)
    assert facts.outputs == (TensorFacts("y", "float32", ("N", 5)),)
    assert facts.ops == {"Conv": 1, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 1}
    assert facts.parameters == 4 * 27 + 4 + 20
    assert facts.weight_bytes == 4 * facts.parameters
    assert facts.weight_dtypes == {"float32": facts.weight_bytes}
    assert facts.batch_free
    assert not facts.control_flow
    assert facts.custom_domains == ()
    assert ModelFacts.from_json(facts.to_json()) == facts


def test_layers_are_reckoned_one_by_one(conv_model: onnx.ModelProto) -> None:
    facts = _facts(conv_model)
    assert [(layer.name, layer.macs, layer.weight_count, layer.activation_bytes) for layer in facts.layers] == [
        ("conv", 4 * 8 * 8 * 27, 4 * 27 + 4, 4 * 4 * 64),
        ("fc", 20, 20, 20),
    ]
    assert facts.macs == 4 * 8 * 8 * 27 + 20


def test_the_peak_holds_what_lives_at_once(conv_model: onnx.ModelProto) -> None:
    # While the convolution runs: its input (3x8x8) and its output (4x8x8); Relu then writes in place.
    assert _facts(conv_model).peak_activation_bytes == 4 * (3 * 64 + 4 * 64)


def test_a_tensor_kept_for_a_skip_connection_lives_on() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "x"], ["y"]),
    ]
    facts = _facts(_model(nodes, ["N", 2, 4, 4], w=_zeros(2, 2, 3, 3)))
    assert facts.peak_activation_bytes == 3 * 2 * 16 * 4
    assert [layer.weight_count for layer in facts.layers] == [36, 0]  # shared weights count once
    assert facts.parameters == 36


@pytest.mark.parametrize(
    ("node", "x", "weights", "macs"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], group=4), ["N", 4, 6, 6], {"w": _zeros(4, 1, 3, 3)}, 4 * 16 * 9),
        (helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2]), ["N", 4, 7, 7], {"w": _zeros(8, 4, 3, 3)}, 8 * 9 * 36),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), ["N", 4, 5, 5], {"w": _zeros(4, 3, 2, 2)}, 4 * 25 * 12),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), ["N", 12], {"w": _zeros(12, 7)}, 84),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), [12, 3], {"w": _zeros(12, 7)}, 3 * 84),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), ["N", 10, 12], {"w": _zeros(12, 7)}, 10 * 84),
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=4),
            [6, "N", 3],
            {"w": _zeros(1, 16, 3), "r": _zeros(1, 16, 4)},
            0,
        ),
        (helper.make_node("Einsum", ["x", "w"], ["y"], equation="nij,jk->nik"), ["N", 5, 6], {"w": _zeros(6, 7)}, 5 * 6 * 7),
        (helper.make_node("Relu", ["x"], ["y"]), ["N", 10], {}, 0),
    ],
)
def test_macs_of_one_node(node: onnx.NodeProto, x: list[Any], weights: dict[str, Any], macs: int) -> None:
    assert _facts(_model([node], x, **weights)).macs == macs


def test_a_recurrent_layer_counts_every_step() -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=4)
    facts = _facts(_model([node], [6, 1, 3], w=_zeros(1, 16, 3), r=_zeros(1, 16, 4)))
    assert facts.macs == 6 * (16 * 3 + 16 * 4)


def test_quantised_forms_count_as_their_float_ones() -> None:
    zero, scale = np.uint8(0), np.float32(1)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    facts = _facts(_model(nodes, ["N", 3, 5, 5], w=np.zeros((2, 3, 3, 3), np.uint8), s=scale, z=zero))
    assert facts.macs == 2 * 9 * 27
    assert facts.quantized
    assert facts.weight_dtypes == {"float32": 4, "uint8": 55}


def test_a_dequantised_weight_belongs_to_the_layer_that_uses_it() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0),
        helper.make_node("Conv", ["x", "d"], ["y"], name="conv"),
    ]
    facts = _facts(_model(nodes, ["N", 3, 5, 5], w=np.zeros((2, 3, 3, 3), np.int8), s=_zeros(2), z=np.zeros(2, np.int8)))
    assert [(layer.name, layer.macs, layer.weight_bytes) for layer in facts.layers] == [("conv", 2 * 9 * 27, 54 + 8 + 2)]


def test_weights_in_constant_nodes_count() -> None:
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(_zeros(12, 7)))
    facts = _facts(_model([constant, helper.make_node("MatMul", ["x", "w"], ["y"])], ["N", 12]))
    assert (facts.parameters, facts.weight_bytes, facts.macs) == (84, 336, 84)
    assert facts.layers[0].weight_bytes == 336


def test_shapes_that_nodes_compute_are_followed() -> None:
    """Pads from ConstantOfShape, and a Reshape whose batch comes from Shape and Gather, as exporters write them."""
    nodes = [
        helper.make_node("ConstantOfShape", ["rank"], ["pads"], value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["p", "t"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    whole = {"rank": np.array([8]), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    facts = _facts(_model(nodes, [1, 2, 4, 4], w=_zeros(4 * 36, 7), **whole))
    assert facts.macs == 3 * 144 * 7  # padding by one on every axis makes (3, 4, 6, 6)


def test_unknown_axes_give_zeros_not_guesses() -> None:
    facts = _facts(_model([helper.make_node("Conv", ["x", "w"], ["y"])], ["N", 3, "h", "w"], w=_zeros(4, 3, 3, 3)))
    assert (facts.macs, facts.peak_activation_bytes, facts.parameters) == (0, 0, 108)
    assert facts.batch_free


def test_a_huge_constant_of_shape_costs_nothing_to_look_at() -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])]
    facts = _facts(_model(nodes, ["N", 1], s=np.array([10**7, 10**5])))
    assert facts.macs == 0


@pytest.mark.parametrize(
    ("x", "y", "free"), [(["N", 2], ["N", 2], True), ([1, 2], [1, 2], False), (["N", 2], [1, 2], False), (["", 2], None, True)]
)
def test_the_batch_is_free_when_both_ends_are(x: list[Any], y: list[Any] | None, free: bool) -> None:
    assert _facts(_model([helper.make_node("Relu", ["x"], ["y"])], x, y=y)).batch_free is free


def test_subgraphs_are_counted_and_their_outer_weights_kept() -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{op}_y", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x", "w"], [f"{op}_y"])], op, [], [out], [])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["t"], keepdims=0),
        helper.make_node("Cast", ["t"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("Add"), else_branch=branch("Mul")),
    ]
    facts = _facts(_model(nodes, ["N", 5], w=_zeros(5)))
    assert facts.control_flow
    assert facts.ops == {"Add": 1, "Cast": 1, "If": 1, "Mul": 1, "ReduceSum": 1}
    assert facts.parameters == 5
    assert [(layer.name, layer.weight_count) for layer in facts.layers] == [("if", 5)]


def test_a_model_that_is_none_is_an_error(saved: Save) -> None:
    with pytest.raises(InvalidModel):
        facts_of(saved(b"no model"))


def _resnet20_macs() -> int:
    """He et al. (2015), section 4.2: 3x3 convolutions at 16, 32 and 64 channels, six per stage, shortcuts without weights."""
    total = 16 * 32 * 32 * 9 * 3
    for channels, side, before in ((16, 32, 16), (32, 16, 16), (64, 8, 32)):
        total += channels * side * side * 9 * before + 5 * channels * side * side * 9 * channels
    return total + 64 * 10


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["resnet8_cifar10", "resnet20_cifar10", "efficientnet_lite0"])
def test_macs_are_what_onnxruntime_computes(shared_data: Path, name: str) -> None:
    """Independent of shape inference: the runtime tells the real shape of every convolution's output."""
    path = shared_data / f"{name}.onnx"
    model = onnx.load(path)
    weights = {item.name: item for item in model.graph.initializer}
    wanted = {node.output[0]: weights[node.input[1]] for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=output) for output in wanted)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    feed = {entry.name: np.zeros([axis if isinstance(axis, int) else 1 for axis in entry.shape], np.float32)}
    total = 0
    for output, tensor in zip(session.run(None, feed), wanted.values(), strict=True):
        dims = list(tensor.dims)
        total += output.size * (math.prod(dims[1:]) if len(dims) == 4 else math.prod(dims) // output.shape[-1])
    facts = facts_of(path)
    assert facts.macs == total
    if name == "resnet20_cifar10":
        assert total == _resnet20_macs() == 40_551_040
    if name == "efficientnet_lite0":
        assert 380e6 < total < 410e6  # its authors publish 407M for the original graph
    assert facts.peak_activation_bytes > 0
