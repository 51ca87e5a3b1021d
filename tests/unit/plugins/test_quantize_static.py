from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from onnx import TensorProto, helper, numpy_helper

from edge_compress.plugin import DeviceProfileSpec, ModelFacts
from tests.unit.plugins.array_context import ArrayContext

Array = np.ndarray[Any, Any]
FACTS = ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1}, weight_dtypes={"float32": 900})


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], *, outputs: tuple[str, ...] = ("y",), opset: int = 17
) -> onnx.ModelProto:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    exits = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [entry], exits, stored)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    )


def weights(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def samples(count: int = 40) -> Array:
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


def session(model: onnx.ModelProto, saved: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if saved:
        options.optimized_model_filepath = str(saved)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def quantized(model: onnx.ModelProto, folder: Path, **params: Any) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return QuantizeStatic().apply(copy, StaticParams(**params), ArrayContext({"x": samples()}, scratch=folder))


def fused(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators that the runtime really runs."""
    session(model, folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def error(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    wanted, got = (session(model).run(None, {"x": samples()})[0] for model in (before, after))
    return float(np.sqrt(np.mean((wanted - got) ** 2)) / np.std(wanted))


def conv(name: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [reads, f"{name}.w", f"{name}.b"], [makes], name=name, **{"pads": [1, 1, 1, 1], **attributes})


def residual() -> onnx.ModelProto:
    """Conv, Relu, a residual Add, a strided shortcut by Slice and Pad, pooling and a Gemm."""
    nodes = [
        conv("a", "x", "a"),
        helper.make_node("Relu", ["a"], ["ar"]),
        conv("b", "ar", "b"),
        helper.make_node("Add", ["b", "ar"], ["s"]),
        helper.make_node("Clip", ["s", "zero", "six"], ["sc"]),
        conv("c", "sc", "c", strides=[2, 2]),
        helper.make_node("Slice", ["sc", "zeros", "ends", "axes", "steps"], ["cut"]),
        helper.make_node("Pad", ["cut", "pads"], ["wide"]),
        helper.make_node("Add", ["c", "wide"], ["d"]),
        helper.make_node("Relu", ["d"], ["dr"]),
        helper.make_node("AveragePool", ["dr"], ["p"], kernel_shape=[4, 4]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g.w", "g.b"], ["y"], transB=1, beta=0.5),
    ]
    constants = {
        "a.w": weights(8, 3, 3, 3), "a.b": weights(8), "b.w": weights(8, 8, 3, 3), "b.b": weights(8),
        "c.w": weights(12, 8, 3, 3), "c.b": weights(12), "g.w": weights(5, 12), "g.b": weights(5),
        "zero": np.array(0, np.float32), "six": np.array(6, np.float32),
        "zeros": np.array([0, 0]), "ends": np.array([8, 8]), "axes": np.array([2, 3]), "steps": np.array([2, 2]),
        "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]),
    }  # fmt: skip
    return model_of(nodes, constants)


def test_every_node_of_a_residual_network_runs_on_integers(tmp_path: Path) -> None:
    changed = quantized(residual(), tmp_path)
    ops = fused(changed, tmp_path)
    floats = {"Conv", "Add", "Relu", "Clip", "Gemm", "AveragePool", "DequantizeLinear"}
    assert not floats & set(ops)
    assert (ops["QLinearConv"], ops["QLinearAdd"], ops["QGemm"], ops["QuantizeLinear"]) == (3, 2, 1, 1)
    assert error(residual(), changed) < 0.05


def test_bounds_that_saturation_sets_are_gone_and_others_bound_the_integers(tmp_path: Path) -> None:
    """A convolution that others read too keeps its negative values; the Relu beside it is a Clip of integers."""
    nodes = [
        conv("a", "x", "a"),
        helper.make_node("Relu", ["a"], ["ar"]),
        conv("b", "ar", "b"),
        helper.make_node("Add", ["b", "a"], ["s"]),
        conv("c", "s", "y"),
    ]
    constants = {f"{name}.w": weights(8, 3 if name == "a" else 8, 3, 3) for name in "abc"} | {
        f"{name}.b": weights(8) for name in "abc"
    }
    model = model_of(nodes, constants)
    changed = quantized(model, tmp_path)
    assert Counter(node.op_type for node in changed.graph.node)["Clip"] == 1
    assert "Relu" not in {node.op_type for node in changed.graph.node}
    assert error(model, changed) < 0.05
    assert "Relu" not in {node.op_type for node in quantized(residual(), tmp_path).graph.node}


def test_a_large_bias_beside_small_weights_survives(tmp_path: Path) -> None:
    """One channel's weights are so small that its bias would need more than 32 bits at their scale."""
    small = weights(4, 3, 3, 3)
    small[0] *= 1e-9
    small[1] = 0.0
    model = model_of(
        [conv("a", "x", "a"), conv("b", "a", "y")],
        {"a.w": small, "a.b": np.array([5, -3, 0, 1], np.float32), "b.w": weights(4, 4, 3, 3), "b.b": weights(4)},
    )
    assert error(model, quantized(model, tmp_path)) < 0.05


def test_shared_weights_are_stored_once(tmp_path: Path) -> None:
    first, second = conv("a", "x", "a"), conv("a", "a", "y")
    second.name = "again"
    model = model_of([first, second], {"a.w": weights(3, 3, 3, 3), "a.b": weights(3)})
    changed = quantized(model, tmp_path)
    stored = [item for item in changed.graph.initializer if item.data_type == TensorProto.INT8 and len(item.dims) == 4]
    assert len(stored) == 1
    assert error(model, changed) < 0.05


def test_excluded_nodes_stay_float_by_node_name_and_by_tensor_name(tmp_path: Path) -> None:
    assert fused(quantized(residual(), tmp_path, exclude=("b",)), tmp_path)["QLinearConv"] == 2
    assert fused(quantized(residual(), tmp_path, exclude=("c",)), tmp_path)["QLinearConv"] == 2


def test_an_excluded_name_that_nobody_has_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    model = residual()
    model.graph.node[0].name = "stem_conv"
    with pytest.raises(ValueError, match=r"'stem_cnv'.*'stem_conv'"):
        quantized(model, tmp_path, exclude=("stem_cnv",))


def test_weights_that_old_models_list_as_inputs_become_fixed(tmp_path: Path) -> None:
    model = residual()
    for item in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)))
    changed = quantized(model, tmp_path)
    assert [item.name for item in changed.graph.input] == ["x"]
    assert fused(changed, tmp_path)["QLinearConv"] == 3


def test_batches_are_small_where_activations_are_large(tmp_path: Path) -> None:
    model = model_of([conv("a", "x", "y", strides=[1, 1])], {"a.w": weights(32, 3, 3, 3), "a.b": weights(32)})
    for item in (*model.graph.input, *model.graph.output):
        for axis in (2, 3):
            item.type.tensor_type.shape.dim[axis].dim_value = 512
    images = np.random.default_rng(0).standard_normal((8, 3, 512, 512)).astype(np.float32)
    context = ArrayContext({"x": images}, scratch=tmp_path)
    QuantizeStatic().apply(model, StaticParams(), context)
    one = (3 + 32) * 512 * 512 * 4
    assert context.largest_batch * one <= 192 << 20


def test_a_tensor_that_is_also_an_output_keeps_its_name(tmp_path: Path) -> None:
    nodes = [conv("a", "x", "a"), helper.make_node("Relu", ["a"], ["ar"]), conv("b", "ar", "y")]
    model = model_of(
        nodes,
        {"a.w": weights(8, 3, 3, 3), "a.b": weights(8), "b.w": weights(4, 8, 3, 3), "b.b": weights(4)},
        outputs=("y", "ar", "a"),
    )
    changed = quantized(model, tmp_path)
    for wanted, got in zip(session(model).run(None, {"x": samples()}), session(changed).run(None, {"x": samples()}), strict=True):
        assert np.abs(wanted - got).max() < 0.05 * np.abs(wanted).max()


def test_a_tensor_that_a_branch_reads_from_outside_stays_there(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Mul", ["a", "two"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["minus"])], "else", [], [helper.make_tensor_value_info("minus", TensorProto.FLOAT, None)]
    )
    nodes = [
        conv("a", "x", "a"),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["z"], then_branch=body, else_branch=other),
        conv("b", "z", "y"),
    ]
    model = model_of(
        nodes,
        {
            "a.w": weights(4, 3, 3, 3),
            "a.b": weights(4),
            "b.w": weights(4, 4, 3, 3),
            "b.b": weights(4),
            "two": np.array(2, np.float32),
            "zero": np.array(0, np.float32),
        },
    )
    changed = quantized(model, tmp_path)
    assert error(model, changed) < 0.05
    assert fused(changed, tmp_path)["QLinearConv"] == 2


def test_calibration_is_streamed_and_reports_how_far_it_is(tmp_path: Path) -> None:
    context = ArrayContext({"x": samples(200)}, scratch=tmp_path)
    QuantizeStatic().apply(residual(), StaticParams(samples=150), context)
    assert context.largest_batch <= 32
    assert context.fractions == sorted(context.fractions)
    assert len(context.fractions) >= 150 // 32


def test_calibration_data_that_overflows_is_an_error_that_names_the_tensor(tmp_path: Path) -> None:
    bad = samples()
    bad[3, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"tensor .*'x'.* not finite"):
        QuantizeStatic().apply(residual(), StaticParams(), ArrayContext({"x": bad}, scratch=tmp_path))


def test_nothing_to_quantise_and_no_data_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no node"):
        quantized(model_of([helper.make_node("Relu", ["x"], ["y"])], {}), tmp_path)
    with pytest.raises(ValueError, match="no calibration samples"):
        QuantizeStatic().apply(residual(), StaticParams(), ArrayContext({"x": samples(0)}, scratch=tmp_path))


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_older_opsets_are_raised(tmp_path: Path, opset: int) -> None:
    nodes = [
        conv("a", "x", "a"),
        helper.make_node("Relu", ["a"], ["ar"]),
        helper.make_node("MaxPool", ["ar"], ["y"], kernel_shape=[2, 2]),
    ]
    model = model_of(nodes, {"a.w": weights(4, 3, 3, 3), "a.b": weights(4)}, opset=opset)
    changed = quantized(model, tmp_path)
    assert changed.opset_import[0].version >= 13
    assert error(model, changed) < 0.05


def test_reduced_range_follows_the_profile_unless_it_was_asked_for() -> None:
    strategy = QuantizeStatic()
    with_dot, without = DeviceProfileSpec(int8_dot_product=True), DeviceProfileSpec(int8_dot_product=False)
    assert strategy.bind(StaticParams(), without).reduce_range is True
    assert strategy.bind(StaticParams(), with_dot).reduce_range is False
    assert strategy.bind(StaticParams(reduce_range=False), without).reduce_range is False


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ops": {"Conv": 1, "QuantizeLinear": 2}}, "already"),
        ({"ops": {"TreeEnsembleClassifier": 1}}, "no Conv or Gemm or MatMul"),
        ({"weight_dtypes": {"float16": 900}}, "float32"),
    ],
)
def test_what_it_does_not_apply_to_is_said_in_words(changes: dict[str, Any], reason: str) -> None:
    from dataclasses import replace

    assert QuantizeStatic().supports(FACTS, DeviceProfileSpec()).ok
    answer = QuantizeStatic().supports(replace(FACTS, **changes), DeviceProfileSpec())
    assert not answer.ok
    assert reason in answer.reason


def resnet20_input(images: Array) -> Array:
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    return np.ascontiguousarray(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "preprocess"),
    [("resnet8_cifar10", lambda images: images.astype(np.float32)), ("resnet20_cifar10", resnet20_input)],
)
@pytest.mark.parametrize("reduced", [True, False])
def test_real_models_keep_their_accuracy(
    shared_data: Path, tmp_path: Path, name: str, preprocess: Callable[[Array], Array], reduced: bool
) -> None:
    data = np.load(io.BytesIO((shared_data / "cifar10_10k.npz").read_bytes()))
    model = onnx.load(shared_data / f"{name}.onnx")
    entry = model.graph.input[0].name
    context = ArrayContext({entry: preprocess(data["x_train"][:256])}, scratch=tmp_path)
    changed = QuantizeStatic().apply(onnx.load(shared_data / f"{name}.onnx"), StaticParams(reduce_range=reduced), context)
    assert model.ByteSize() / changed.ByteSize() > 3.2
    test, labels = preprocess(data["x_test"][:2000]), data["y_test"][:2000]
    before, after = (np.mean(session(item).run(None, {entry: test})[0].argmax(axis=1) == labels) for item in (model, changed))
    assert before - after <= 0.01
    ops = fused(changed, tmp_path)
    assert not {"Conv", "Add", "Relu", "DequantizeLinear"} & set(ops)
