"""What whole graphs must keep: sharing, names, free axes, folded shape arithmetic; and every reason at once where they cannot."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from edge_compress.graph.bridge import Unsupported, check_parity, to_onnx, to_torch, unknown, what
from edge_compress.graph.bridge.parity import run_onnx, run_torch
from tests.unit.graph.bridge.small_models import floats, hold, ints, model_of


def test_layers_that_share_weights_stay_one():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("Tanh", ["a"], ["t"], name="tanh"),
        helper.make_node("MatMul", ["t", "w"], ["y"], name="two"),
    ]
    feeds = {"x": floats(3, 6)}
    model = model_of(nodes, feeds, ["y"], {"w": floats(6, 6, seed=1)})
    imported, written = hold(model, feeds)
    assert [tuple(item.shape) for item in imported.module.parameters()] == [(6, 6)]
    assert [item.name for item in written.graph.initializer] == ["w"]


def test_a_tied_embedding_stays_tied():
    nodes = [
        helper.make_node("Gather", ["t", "i"], ["e"], name="embed"),
        helper.make_node("Transpose", ["t"], ["tt"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["e", "tt"], ["y"], name="head"),
    ]
    feeds = {"i": np.array([[1, 2], [0, 3], [4, 4]])}
    imported, written = hold(model_of(nodes, feeds, ["y"], {"t": floats(5, 4)}), feeds)
    assert len(list(imported.module.parameters())) == 1
    assert sum(1 for item in written.graph.initializer if list(item.dims) == [5, 4]) == 1


def test_equal_but_separate_biases_stay_separate():
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"], name="one"),
        helper.make_node("Gemm", ["a", "v", "c"], ["y"], name="two"),
    ]
    feeds = {"x": floats(3, 4)}
    constants = {"w": floats(4, 4), "b": np.zeros(4, np.float32), "v": floats(4, 4, seed=1), "c": np.zeros(4, np.float32)}
    imported, _ = hold(model_of(nodes, feeds, ["y"], constants), feeds)
    assert imported.parameters == {"one.weight": "w", "one.bias": "b", "two.weight": "v", "two.bias": "c"}
    assert imported.module.one.bias is not imported.module.two.bias


def test_a_product_and_a_sum_become_one_linear_and_two_nodes_again():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["b", "p"], ["y"], name="sum"),
    ]
    feeds = {"x": floats(3, 4, 6)}
    imported, written = hold(model_of(nodes, feeds, ["y"], {"w": floats(6, 5), "b": floats(5)}), feeds)
    assert isinstance(imported.module.product, nn.Linear)
    assert [node.op_type for node in written.graph.node] == ["MatMul", "Add"]
    assert [node.name for node in written.graph.node] == ["product", "sum"]


def batch_in_the_shape(opset=17):
    """Shape -> Gather -> Unsqueeze -> Concat -> Reshape, and Expand by the batch, as exporters write them."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], name="batch"),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"], name="wide"),
        helper.make_node("Concat", ["n1", "rest"], ["to"], name="join", axis=0),
        helper.make_node("Reshape", ["x", "to"], ["r"], name="reshape"),
        helper.make_node("Concat", ["n1", "one", "last"], ["grow"], name="join2", axis=0),
        helper.make_node("Expand", ["token", "grow"], ["tokens"], name="expand"),
        helper.make_node("Concat", ["tokens", "r"], ["y"], name="together", axis=1),
    ]
    constants = {
        "zero": np.int64(0),
        "axes": ints(0),
        "rest": ints(6, -1),
        "one": ints(1),
        "last": ints(4),
        "token": floats(1, 1, 4),
    }
    feeds = {"x": floats(3, 2, 12)}
    return model_of(nodes, feeds, ["y"], constants, opset=opset), feeds


def test_shape_arithmetic_on_the_batch_is_kept():
    model, feeds = batch_in_the_shape()
    imported, written = hold(model, feeds)
    more = {"x": floats(7, 2, 12, seed=3)}
    want = run_onnx(model, more)[0]
    assert want.shape == (7, 7, 4)
    assert np.array_equal(run_onnx(written, more)[0], want)
    assert np.array_equal(run_torch(imported, model, more)[0], want)


def test_a_fixed_batch_is_free_in_torch_and_fixed_again_when_written():
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["r"], name="reshape"),
        helper.make_node("Gemm", ["r", "w"], ["y"], name="head"),
    ]
    feeds = {"x": floats(1, 3, 4)}
    model = model_of(nodes, feeds, ["y"], {"to": ints(1, 12), "w": floats(12, 2)}, free=())
    imported, written = hold(model, feeds)
    assert imported.free_batch
    assert imported.module(torch.zeros(9, 3, 4)).shape == (9, 2)
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_several_free_axes():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="shape"),
        helper.make_node("Slice", ["s", "two", "four"], ["hw"], name="tail"),
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"], name="pool"),
        helper.make_node("Mul", ["c", "g"], ["y"], name="gate"),
    ]
    feeds = {"x": floats(2, 3, 10, 14)}
    model = model_of(nodes, feeds, ["y"], {"w": floats(4, 3, 3, 3), "two": ints(2), "four": ints(4)})
    for axis, name in ((2, "H"), (3, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = f"{name}2"
    imported, _ = hold(model, feeds)
    assert imported.module(torch.zeros(1, 3, 33, 17)).shape == (1, 4, 17, 9)


def test_several_inputs_and_outputs_in_order():
    nodes = [
        helper.make_node("Gemm", ["a", "w"], ["p"], name="one"),
        helper.make_node("Gemm", ["b", "w"], ["q"], name="two"),
        helper.make_node("Sub", ["q", "p"], ["r"], name="minus"),
    ]
    feeds = {"b": floats(3, 4), "a": floats(3, 4, seed=1)}
    imported, _ = hold(model_of(nodes, feeds, ["r", "p", "b"], {"w": floats(4, 2)}), feeds)
    assert (imported.inputs, imported.outputs) == (("b", "a"), ("r", "p", "b"))


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("start", [False, True])
def test_recurrent_layers(operator, direction, start):
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator], 2 if direction == "bidirectional" else 1
    constants = {"w": floats(ways, gates * 5, 4), "r": floats(ways, gates * 5, 5, seed=1), "b": floats(ways, gates * 10, seed=2)}
    feeds = {"x": floats(6, 3, 4, seed=3)}
    states = ["h", "c"] if operator == "LSTM" else ["h"]
    if start:
        feeds |= {name: floats(ways, 3, 5, seed=4 + index) for index, name in enumerate(states)}
    extra = {"linear_before_reset": 1} if operator == "GRU" else {}
    outputs = ["y", *(f"last_{name}" for name in states)]
    names = ["x", "w", "r", "b", "", *(states if start else [])]
    node = helper.make_node(operator, names, outputs, name="cell", hidden_size=5, direction=direction, **extra)
    model = model_of([node], feeds, outputs, constants, free=())
    for item in model.graph.input:
        item.type.tensor_type.shape.dim[1].dim_value = 3
    imported, _ = hold(model, feeds)
    with torch.no_grad():
        for weight in imported.module.parameters():
            weight.mul_(1.3)
    for want, got in zip(run_torch(imported, model, feeds), run_onnx(to_onnx(imported, model), feeds), strict=True):
        assert np.allclose(want, got, atol=1e-5)


def hopeless():
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "body", [], [helper.make_tensor_value_info("b", 1, None)])
    nodes = [
        helper.make_node("If", ["flag"], ["i"], name="branch", then_branch=body, else_branch=body),
        helper.make_node("Relu", ["i"], ["r"], name="relu"),
        helper.make_node("NonZero", ["x"], ["z"], name="where"),
        helper.make_node("Thing", ["x"], ["t"], name="strange", domain="com.example"),
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="quant"),
        helper.make_node("GRU", ["x", "w", "rr"], ["g"], name="old", hidden_size=2),
        helper.make_node("Cast", ["q"], ["qf"], name="cast", to=1),
    ]
    entries = [helper.make_tensor_value_info("x", 1, [4, "N", 3])]
    exits = [helper.make_tensor_value_info(name, 1, None) for name in ("r", "z", "t", "qf", "g")]
    constants = {"flag": np.array(True), "s": np.float32(0.1), "w": floats(1, 6, 3), "rr": floats(1, 6, 2)}
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", entries, exits, stored), opset_imports=opsets)


def test_every_reason_is_told_at_once():
    found = what(hopeless())
    assert {(op, node) for op, node, _ in found} == {
        ("If", "branch"),
        ("NonZero", "where"),
        ("Thing", "strange"),
        ("QuantizeLinear", "quant"),
        ("GRU", "old"),
    }
    assert all(why for _, _, why in found)
    with pytest.raises(Unsupported, match=r"branch.*where.*strange.*quant.*old|5 nodes"):
        to_torch(hopeless())


def test_unknown_names_operators_without_torch():
    assert unknown({"Conv", "NonZero", "If", "Relu"}) == ("If", "NonZero")


def test_parity_says_which_output_differs():
    feeds = {"x": floats(3, 4)}
    model = model_of([helper.make_node("Gemm", ["x", "w"], ["y"], name="head")], feeds, ["y"], {"w": floats(4, 2)})
    imported = to_torch(model)
    with torch.no_grad():
        imported.module.head.weight.add_(0.1)
    with pytest.raises(Unsupported, match="the module differs in output 'y'"):
        check_parity(model, imported, feeds)


def test_importing_leaves_the_model_and_torchs_randomness_alone():
    model, _ = batch_in_the_shape()
    before, state = model.SerializeToString(), torch.get_rng_state()
    to_onnx(to_torch(model), model)
    assert model.SerializeToString() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_constants_that_look_like_masks_are_not_learned():
    feeds = {"x": floats(3, 4)}
    constants = {"mask": np.array([0, -1e9, 0, -1e9], np.float32), "shift": floats(4)}
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["m"], name="hide"),
        helper.make_node("Add", ["m", "shift"], ["s"], name="move"),
        helper.make_node("Softmax", ["s"], ["y"], name="soft"),
    ]
    imported, _ = hold(model_of(nodes, feeds, ["y"], constants), feeds)
    assert list(imported.parameters.values()) == ["shift"]


def test_nodes_of_one_name_stay_two():
    nodes = [
        helper.make_node("LeakyRelu", ["x"], ["a"], name="same", alpha=0.1),
        helper.make_node("LeakyRelu", ["a"], ["y"], name="same", alpha=0.7),
    ]
    feeds = {"x": floats(3, 4)}
    model = model_of(nodes, feeds, ["y"])
    written = to_onnx(to_torch(model), model)  # onnxruntime refuses the original for its names
    assert len({node.name for node in written.graph.node}) == 2
    assert np.allclose(run_onnx(written, feeds)[0], np.where(feeds["x"] < 0, 0.07 * feeds["x"], feeds["x"]))


def test_one_kernel_with_pads_that_follow_the_input():
    """auto_pad means other pads for the second use."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="one", auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Conv", ["a", "w"], ["y"], name="two", auto_pad="SAME_UPPER", strides=[2, 2]),
    ]
    feeds = {"x": floats(2, 3, 10, 10)}
    imported, _ = hold(model_of(nodes, feeds, ["y"], {"w": floats(3, 3, 3, 3)}), feeds)
    assert len(list(imported.module.parameters())) == 1


def test_an_input_that_torch_cannot_hold_is_a_reason():
    node = helper.make_node("Cast", ["x"], ["y"], name="cast", to=1)
    text = helper.make_tensor_value_info("x", onnx.TensorProto.STRING, ["N"])
    graph = helper.make_graph([node], "g", [text], [helper.make_tensor_value_info("y", 1, ["N"])])
    assert what(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])) == [("input", "x", "the type string")]


def test_initial_states_of_zeros_leave_the_batch_free():
    constants = {"w": floats(1, 8, 3), "r": floats(1, 8, 2), "h": np.zeros((1, 2, 2), np.float32)}
    feeds = {"x": floats(4, 2, 3)}
    names = ["x", "w", "r", "", "", "h", "h"]
    node = helper.make_node("LSTM", names, ["y"], name="cell", hidden_size=2)
    hold(model_of([node], feeds, ["y"], constants, free=()), feeds)
    assert to_torch(model_of([node], feeds, ["y"], constants, free=())).module(torch.zeros(4, 7, 3)).shape == (4, 1, 7, 2)
