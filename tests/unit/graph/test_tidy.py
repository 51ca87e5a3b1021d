"""Tidying a graph: what goes, what stays, and that it computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_compress.errors import InvalidModel
from edge_compress.graph.tidy import tidied
from edge_compress.graph.walk import in_order, outer_names, uses


def _run(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_constants_become_initializers_and_equal_ones_are_shared() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.array([1, 2], np.float32))),
        helper.make_node("Constant", [], ["i"], value_int=3),
        helper.make_node("Add", ["x", "a"], ["t"]),
        helper.make_node("Mul", ["t", "b"], ["u"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["u", "f"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    tidy = tidied(model)
    assert [item.name for item in tidy.graph.initializer] == ["a", "i"]
    assert all(node.op_type != "Constant" for node in tidy.graph.node)
    assert len(model.graph.node) == 7  # the original is left alone
    x = np.array([[3, 4]], np.float32)
    np.testing.assert_array_equal(_run(tidy, x), _run(model, x))


def test_dead_nodes_and_unused_initializers_go(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.node.append(helper.make_node("Relu", ["c"], ["dead"]))
    conv_model.graph.node.append(helper.make_node("Relu", ["dead"], ["deader"]))
    conv_model.graph.initializer.append(numpy_helper.from_array(np.zeros(9, np.float32), "unused"))
    tidy = tidied(conv_model)
    assert [node.name for node in tidy.graph.node] == ["conv", "relu", "pool", "flat", "fc"]
    assert [item.name for item in tidy.graph.initializer] == ["w", "b", "fc"]


def test_initializers_that_are_inputs_too_stop_being_inputs(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]))
    assert [item.name for item in tidied(conv_model).graph.input] == ["x"]


def test_nodes_are_put_in_order_and_ties_keep_theirs(conv_model: onnx.ModelProto) -> None:
    nodes = list(conv_model.graph.node)
    assert [node.name for node in in_order(nodes[::-1])] == ["conv", "relu", "pool", "flat", "fc"]
    twins = [helper.make_node("Relu", ["x"], [name]) for name in "bac"]
    assert [node.output[0] for node in in_order(twins)] == ["b", "a", "c"]


def test_a_cycle_is_named(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.node[0].input[0] = "r"
    with pytest.raises(InvalidModel, match="cycle through 'conv'"):
        tidied(conv_model)


def test_what_a_subgraph_takes_from_outside_counts_as_use() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["o"])], "b", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    assert set(outer_names(body)) == {"x", "w"}
    assert set(uses(node)) == {"c", "x", "w"}


def test_local_functions_are_written_out() -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    function = helper.make_function("mine", "twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("twice", ["x"], ["y"], domain="mine")], "g", values[:1], values[1:])
    tidy = tidied(helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8))
    assert [node.op_type for node in tidy.graph.node] == ["Add"]
    assert _run(tidy, np.ones((1, 2), np.float32)).tolist() == [[2, 2]]
