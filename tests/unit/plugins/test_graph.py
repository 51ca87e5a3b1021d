"""graph.optimize: what it folds, what it leaves, and that it keeps its word on every opset."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edge_compress_graph import compare
from edge_compress_graph.optimize import GraphOptimize, OptimizeParams
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.check import MAX_OPSET, MIN_OPSET, parse_checked
from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import Batch, Context, DeviceProfileSpec
from edge_compress.plugin.registry import Registry

Array = np.ndarray[Any, Any]
PROFILE = DeviceProfileSpec()


def _apply(model: onnx.ModelProto, context: Context) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    return parse_checked(GraphOptimize().apply(copy, OptimizeParams(), context).SerializeToString())


def _run(model: onnx.ModelProto, **feed: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(item) for item in session.run(None, feed)]


def _ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def exporter_model(opset: int = 17, batch: str | int = "N") -> onnx.ModelProto:
    """Computed Pad, Conv, BatchNormalization, Identity, Dropout, Relu, pool, Reshape one after the other, and a dead node."""
    draw = np.random.default_rng(0)
    arrays = {
        "w": draw.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "scale": draw.random(4).astype(np.float32) + 0.5,
        "shift": draw.standard_normal(4).astype(np.float32),
        "mean": draw.standard_normal(4).astype(np.float32),
        "var": draw.random(4).astype(np.float32) + 0.5,
        "left": np.array([0, 0, 1, 1]),
        "right": np.array([0, 0, 1, 1]),
        "flat": np.array([-1, 4]),
    }
    if opset >= 11:
        pad = [helper.make_node("Concat", ["left", "right"], ["pads"], axis=0), helper.make_node("Pad", ["x", "pads"], ["p"])]
    else:
        pad = [helper.make_node("Pad", ["x"], ["p"], pads=[0, 0, 1, 1, 0, 0, 1, 1])]
    nodes = [
        *pad,
        helper.make_node("Conv", ["p", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        helper.make_node("Identity", ["n"], ["i"]),
        helper.make_node("Dropout", ["i"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Reshape", ["g", "flat"], ["y"]),
        helper.make_node("Neg", ["c"], ["dead"]),
    ]
    graph = helper.make_graph(
        nodes,
        "exported",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_it_is_registered_and_lossless() -> None:
    strategy = Registry.load(only=["graph"], strict=True).strategy("graph.optimize")
    assert (strategy.stage, strategy.ensures.lossless, strategy.ensures.same_interface) == ("graph", True, True)


def test_folding_leaves_only_what_computes(context: Context) -> None:
    model = exporter_model()
    folded = _apply(model, context)
    assert _ops(folded) == ["Conv", "Relu", "GlobalAveragePool", "Reshape"]
    x = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(_run(folded, x=x)[0], _run(model, x=x)[0], rtol=1e-4, atol=1e-5)
    assert any("became 4" in line for line in context.lines)  # type: ignore[attr-defined]


def test_the_interface_stays_to_the_letter(context: Context) -> None:
    model = exporter_model()
    folded = _apply(model, context)
    assert list(folded.graph.input) == list(model.graph.input)
    assert list(folded.graph.output) == list(model.graph.output)
    assert folded.opset_import == model.opset_import


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
def test_every_opset_is_folded_in_standard_operators(opset: int, context: Context) -> None:
    model = exporter_model(opset)
    folded = _apply(model, context)
    assert {node.domain for node in folded.graph.node} <= {""}
    assert [item.version for item in folded.opset_import] == [opset]
    assert len(folded.graph.node) < len(model.graph.node)


@pytest.mark.parametrize("batch", [2, "N", ""])
def test_the_batch_axis_stays_as_it_was(batch: str | int, context: Context) -> None:
    axis = _apply(exporter_model(batch=batch), context).graph.input[0].type.tensor_type.shape.dim[0]
    assert (axis.dim_value if isinstance(batch, int) else axis.dim_param) == batch


def test_the_bytes_are_the_same_in_every_process(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exporter_model().SerializeToString())
    code = (
        "import sys, onnx, hashlib; from pathlib import Path; from edge_compress_graph.fold import fold; "
        "model = fold(onnx.load(sys.argv[1]), Path(sys.argv[2])); "
        "print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(path), str(context.scratch)]
    digests = {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(3)}
    assert digests == {hashlib.sha256(_apply(exporter_model(), context).SerializeToString(deterministic=True)).hexdigest()}


def test_folding_never_makes_a_model_much_larger(context: Context) -> None:
    """A megabyte that a few bytes describe is left described."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["k"]), helper.make_node("Add", ["x", "k"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 512, 512]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(np.array([512, 512]), "s")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert _apply(model, context).ByteSize() < 1000


def test_real_samples_are_compared_where_there_are_some(context: Any) -> None:
    context.samples = [Batch({"x": np.ones((1, 3, 8, 8), np.float32)})]
    _apply(exporter_model(), context)
    other = exporter_model()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    with pytest.raises(ValueError, match=r"output 'y' differs by .* where the largest is"):
        compare.refuse_difference(exporter_model(), other, context, 1)


def test_a_difference_on_noise_is_refused_too(context: Context) -> None:
    other = exporter_model()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    with pytest.raises(ValueError, match="output 'y' differs"):
        compare.refuse_difference(exporter_model(), other, context, 1)


def test_a_model_that_cannot_run_on_noise_is_not_compared_and_says_so(context: Any) -> None:
    """Free axes of one would make the matrices of this model disagree."""
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "k"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2]),
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        values[:1],
        values[1:],
        [numpy_helper.from_array(np.ones((7, 2), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _apply(model, context)
    assert any("outputs were not compared" in line for line in context.lines)


def test_other_precisions_are_refused_with_the_reason() -> None:
    half = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["N", 2])],
            [numpy_helper.from_array(np.ones(2, np.float16), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    support = GraphOptimize().supports(facts_of_model(half, "", 0), PROFILE)
    assert (support.ok, "half-precision" in support.reason) == (False, True)
    assert GraphOptimize().supports(facts_of_model(exporter_model(), "", 0), PROFILE).ok


def test_a_quantised_model_is_refused() -> None:
    model = exporter_model()
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["y"], ["q", "s", "z"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y2"]))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["y2", "s", "z"], ["y3"]))
    assert not GraphOptimize().supports(facts_of_model(model, "", 0), PROFILE).ok


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "most"), [("resnet8_cifar10", 24), ("resnet20_cifar10", 56), ("efficientnet_lite0", 94)])
def test_real_models_lose_their_shape_chains(context: Context, shared_data: Path, name: str, most: int) -> None:
    model = onnx.load(shared_data / f"{name}.onnx")
    folded = _apply(model, context)
    assert len(folded.graph.node) <= most
    assert not {"Constant", "ConstantOfShape", "Concat", "Shape"} & set(_ops(folded))
    before, after = facts_of_model(model, "", 1), facts_of_model(folded, "", 1)
    assert before.macs <= after.macs <= 1.01 * before.macs  # shortcuts that pad become convolutions
    assert after.inputs == before.inputs
