"""Untrusted models: what is refused, and that the line says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_compress.errors import InvalidModel, TooLarge
from edge_compress.graph.check import MAX_OPSET, MAX_SUBGRAPH_DEPTH, MIN_OPSET, load_checked, parse_checked
from edge_compress.graph.facts import facts_of_model

Save = Callable[[onnx.ModelProto | bytes], Path]


def test_a_sound_model_comes_back_as_it_is(conv_model: onnx.ModelProto, saved: Save) -> None:
    assert load_checked(saved(conv_model)) == conv_model


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty file"),
        (b"\x00\x01\x02 these are no protobuf bytes", "not an ONNX model"),
        (np.random.default_rng(0).bytes(4096), "not an ONNX model"),
        (b"PK\x03\x04 a zip file", "not an ONNX model"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "without a graph"),
    ],
)
def test_bytes_that_are_no_model_are_refused(data: bytes, said: str, saved: Save) -> None:
    with pytest.raises(InvalidModel, match=said) as caught:
        load_checked(saved(data))
    assert "model.onnx" not in caught.value.message, "the caller names the file, which here is a blob's"


def test_every_truncation_is_refused(conv_model: onnx.ModelProto) -> None:
    data = conv_model.SerializeToString()
    for end in range(0, len(data), 7):
        with pytest.raises(InvalidModel):
            parse_checked(data[:end])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_change_of_bytes_is_refused_or_leaves_a_model_with_facts(
    conv_model: onnx.ModelProto, changes: list[tuple[int, int]]
) -> None:
    data, refused = bytearray(conv_model.SerializeToString()), list[str]()
    for place, value in changes:
        data[place % len(data)] = value
    try:
        model = parse_checked(bytes(data))
    except InvalidModel as error:
        refused.append(error.message)
    else:
        assert facts_of_model(model, "", len(data)).macs >= 0
    assert all(message and "\n" not in message for message in refused)


def test_names_that_are_no_text_are_refused(conv_model: onnx.ModelProto) -> None:
    data = conv_model.SerializeToString().replace(b"relu", b"rel\xff")
    with pytest.raises(InvalidModel, match=r"read the name or text b'rel\\xff', expected UTF-8"):
        parse_checked(data)


def test_a_model_over_the_limit_is_too_large_and_never_read(conv_model: onnx.ModelProto, saved: Save) -> None:
    path = saved(conv_model)
    with pytest.raises(TooLarge, match=f"read {path.stat().st_size} bytes, expected at most 100"):
        load_checked(path, max_bytes=100)


def test_external_data_is_refused_with_its_location(conv_model: onnx.ModelProto) -> None:
    tensor = conv_model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(InvalidModel, match=r"'w' lies in another file \('../../etc/passwd'\)"):
        parse_checked(conv_model.SerializeToString())


def test_external_data_hidden_in_a_constant_is_refused(conv_model: onnx.ModelProto) -> None:
    hidden = TensorProto(name="", data_type=TensorProto.FLOAT, dims=[1])
    hidden.external_data.add(key="location", value="elsewhere.bin")
    conv_model.graph.node.append(helper.make_node("Constant", [], ["k"], value=hidden))
    with pytest.raises(InvalidModel, match=r"elsewhere\.bin"):
        parse_checked(conv_model.SerializeToString())


@pytest.mark.parametrize("version", [MIN_OPSET - 1, MAX_OPSET + 1, 0, 10**9])
def test_an_opset_outside_the_range_is_refused(conv_model: onnx.ModelProto, version: int) -> None:
    conv_model.opset_import[0].version = version
    with pytest.raises(InvalidModel, match=f"read opset {version}, expected {MIN_OPSET} to {MAX_OPSET}"):
        parse_checked(conv_model.SerializeToString())


@pytest.mark.parametrize("version", [MIN_OPSET, MAX_OPSET])
def test_the_runtime_loads_the_opsets_that_are_accepted(version: int) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    data = parse_checked(model.SerializeToString()).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([[-1, 1]], np.float32)})[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("dims", [[4, 3, 3, 4], [10**9, 10**9, 3, 3], [4, 3, 3], [-4, -3, 3, 3]])
def test_a_tensor_that_is_not_what_its_dims_say_is_refused(conv_model: onnx.ModelProto, dims: list[int]) -> None:
    conv_model.graph.initializer[0].dims[:] = dims
    with pytest.raises(InvalidModel, match="tensor 'w': read"):
        parse_checked(conv_model.SerializeToString())


def test_typed_fields_are_counted_too(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.initializer[1].CopyFrom(helper.make_tensor("b", TensorProto.FLOAT, [4], [0, 0, 0, 0]))
    assert parse_checked(conv_model.SerializeToString())
    del conv_model.graph.initializer[1].float_data[2:]
    with pytest.raises(InvalidModel, match="tensor 'b': read 2 values, expected 4 for FLOAT"):
        parse_checked(conv_model.SerializeToString())


def test_four_bit_tensors_are_counted_packed() -> None:
    tensor = helper.make_tensor("w", TensorProto.INT4, [3], [1, -2, 3])
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [3]),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["d"]), helper.make_node("Add", ["x", "d"], ["y"])]
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [tensor, scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert parse_checked(model.SerializeToString())


@pytest.mark.parametrize("what", ["input", "output"])
def test_a_graph_without_an_interface_is_refused(conv_model: onnx.ModelProto, what: str) -> None:
    conv_model.graph.ClearField(what)
    with pytest.raises(InvalidModel, match=f"without {what}s"):
        parse_checked(conv_model.SerializeToString())


def test_inputs_that_are_no_tensors_are_refused(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    with pytest.raises(InvalidModel, match="input 's': read sequence_type, expected a tensor"):
        parse_checked(conv_model.SerializeToString())


@pytest.mark.parametrize("axis", [-1, 2**40])
def test_absurd_axes_are_refused(conv_model: onnx.ModelProto, axis: int) -> None:
    conv_model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = axis
    with pytest.raises(InvalidModel, match=f"input 'x': read an axis of {axis}"):
        parse_checked(conv_model.SerializeToString())


def test_a_name_given_twice_is_refused(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.node[1].output[0] = "c"
    with pytest.raises(InvalidModel, match="'c' is given to two tensors"):
        parse_checked(conv_model.SerializeToString())


def test_a_cycle_is_refused(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.node[0].input[0] = "r"
    with pytest.raises(InvalidModel, match="breaks the ONNX rules"):
        parse_checked(conv_model.SerializeToString())


def test_an_input_that_nothing_makes_is_refused(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(InvalidModel, match="nowhere"):
        parse_checked(conv_model.SerializeToString())


def test_an_output_that_nothing_makes_is_refused(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.output[0].name = "nowhere"
    with pytest.raises(InvalidModel, match="'nowhere' is made by no node"):
        parse_checked(conv_model.SerializeToString())


def test_an_unknown_standard_operator_is_refused(conv_model: onnx.ModelProto) -> None:
    conv_model.graph.node[1].op_type = "Frobnicate"
    with pytest.raises(InvalidModel, match="Frobnicate"):
        parse_checked(conv_model.SerializeToString())


def test_operators_of_other_domains_pass() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    assert parse_checked(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _nested(depth: int) -> onnx.ModelProto:
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Not", ["c"], ["y0"])], "b", [], [helper.make_tensor_value_info("y0", TensorProto.BOOL, [])]
    )
    for level in range(1, depth + 1):
        name = f"y{level}"
        node = helper.make_node("If", ["c"], [name], then_branch=body, else_branch=body)
        body = helper.make_graph([node], "b", [], [helper.make_tensor_value_info(name, TensorProto.BOOL, [])])
    body.input.append(condition)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_control_flow_nested_too_deep_is_refused() -> None:
    with pytest.raises(InvalidModel, match=f"nested more than {MAX_SUBGRAPH_DEPTH} deep"):
        parse_checked(_nested(MAX_SUBGRAPH_DEPTH + 1).SerializeToString())


def test_protobuf_nested_beyond_its_own_limit_is_refused() -> None:
    data = b""
    for _ in range(2000):
        attribute = b"\x32" + _varint(len(data)) + data
        node = b"\x2a" + _varint(len(attribute)) + attribute
        data = b"\x0a" + _varint(len(node)) + node
    with pytest.raises(InvalidModel, match="not an ONNX model"):
        parse_checked(b"\x3a" + _varint(len(data)) + data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _calling(chain: list[tuple[str, list[str]]]) -> onnx.ModelProto:
    """A model that calls f0; each (name, callees) is a local function that calls its callees one after another."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    functions = []
    for name, callees in chain:
        wires = ["a", *(f"t{index}" for index in range(len(callees) - 1)), "b"]
        nodes = [
            helper.make_node(callee, [wires[index]], [wires[index + 1]], domain="" if callee == "Relu" else "mine")
            for index, callee in enumerate(callees)
        ]
        functions.append(helper.make_function("mine", name, ["a"], ["b"], nodes, opsets))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("f0", ["x"], ["y"], domain="mine")], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def test_a_function_that_calls_itself_is_refused() -> None:
    with pytest.raises(InvalidModel, match="calls itself"):
        parse_checked(_calling([("f0", ["f1"]), ("f1", ["f0"])]).SerializeToString())


def test_functions_that_explode_when_written_out_are_refused() -> None:
    chain = [(f"f{level}", [f"f{level + 1}"] * 10) for level in range(9)] + [("f9", ["Relu"])]
    with pytest.raises(InvalidModel, match="read 1000000000 nodes with functions written out"):
        parse_checked(_calling(chain).SerializeToString())


def test_a_function_that_calls_itself_within_a_branch_is_refused() -> None:
    model = _calling([("f0", ["Relu"])])
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["N", 2])
    branch = helper.make_graph([helper.make_node("f0", ["a"], ["inner"], domain="mine")], "branch", [], [value])
    choice = helper.make_node("If", ["yes"], ["b"], then_branch=branch, else_branch=branch)
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    del model.functions[0].node[:]
    model.functions[0].node.extend([yes, choice])
    with pytest.raises(InvalidModel, match="calls itself"):
        parse_checked(model.SerializeToString())


def test_an_honest_function_passes() -> None:
    assert parse_checked(_calling([("f0", ["f1", "f1"]), ("f1", ["Relu"])]).SerializeToString())


@pytest.mark.parametrize("what", ["input", "output"])
def test_an_interface_without_a_shape_is_named(what: str, conv_model: onnx.ModelProto) -> None:
    item = getattr(conv_model.graph, what)[0]
    item.type.tensor_type.ClearField("shape")
    with pytest.raises(InvalidModel, match=f"{what} '{item.name}': read no shape, expected one"):
        parse_checked(conv_model.SerializeToString())
