"""Sensitivity of single layers: the one that matters is told from the one that does not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.facts import facts_of_model
from edge_compress.graph.sensitivity import sensitivities


def two_branches(opset: int = 17, weight_dtype: type = np.float32) -> onnx.ModelProto:
    """x -> (one MatMul that makes nearly all of the answer, one that hardly adds to it) -> Add."""
    draw = np.random.default_rng(3)
    weight = draw.standard_normal((8, 6)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["big"], value=numpy_helper.from_array(weight.astype(weight_dtype))),
            helper.make_node("MatMul", ["x", "big"], ["l"], name="loud"),
            helper.make_node("MatMul", ["x", "small"], ["q"], name="quiet"),
            helper.make_node("Add", ["l", "q"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6])],
        [numpy_helper.from_array(weight[::-1] / 1000, "small")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def samples(count: int = 4) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(5)
    return [{"x": draw.standard_normal((1, 8)).astype(np.float32)} for _ in range(count)]


def test_the_layer_that_makes_the_answer_is_the_sensitive_one() -> None:
    found = sensitivities(two_branches(), samples(), ["loud", "quiet"])
    assert list(found) == ["quiet", "loud"], "the last first"
    assert 0.02 < found["loud"] < 0.3
    assert found["quiet"] < found["loud"] / 100


def test_a_layer_is_probed_as_when_the_whole_model_runs() -> None:
    """The tail of the graph gives what the model with rounded weights gives."""
    model, feeds = two_branches(opset=9), samples(1)  # below opset 11 the weights alone are rounded
    found = sensitivities(model, feeds, ["loud"])
    weight = numpy_helper.to_array(model.graph.node[0].attribute[0].t)
    step = np.abs(weight).max(axis=0) / 7
    x, quiet = feeds[0]["x"], numpy_helper.to_array(model.graph.initializer[0])
    want, got = x @ (weight + quiet), x @ (np.round(weight / step) * step + quiet)
    assert found["loud"] == pytest.approx(np.linalg.norm(got - want) / np.linalg.norm(want), rel=1e-4)


def test_residual_networks_are_probed_layer_by_layer(conv_model: onnx.ModelProto) -> None:
    draw = np.random.default_rng(1)
    feeds = [{"x": draw.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    found = sensitivities(conv_model, feeds, [layer.name for layer in facts_of_model(conv_model, "", 0).layers])
    assert set(found) == {"conv", "fc"}
    assert all(0 < value < 1 for value in found.values())


def test_it_ends_when_told_and_leaves_out_what_it_does_not_know() -> None:
    assert sensitivities(two_branches(), samples(), ["loud", "quiet"], stop=lambda: True) == {}
    assert sensitivities(two_branches(), samples(), ["nobody"]) == {}


def test_nodes_that_share_a_name_and_infinite_answers_do_no_harm() -> None:
    model = two_branches()
    for node in model.graph.node:
        node.name = "same" if node.op_type in ("Add", "Log") else node.name
    model.graph.node.append(helper.make_node("Log", ["y"], ["z"], name="same"))
    model.graph.output[0].name = "z"
    found = sensitivities(model, samples(), ["loud"])  # the logarithm of what is below zero is no number
    assert 0 < found["loud"] < 3


def test_answers_that_are_no_numbers_have_no_error() -> None:
    model = two_branches()
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["class"], axis=1))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("class", TensorProto.INT64, ["N", 1]))
    assert sensitivities(model, samples(), ["loud"]) == {}
