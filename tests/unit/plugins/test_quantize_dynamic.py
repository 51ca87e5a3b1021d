from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_quantize.dynamic import DynamicParams, QuantizeDynamic
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from onnx import TensorProto, helper, numpy_helper

from edge_compress.plugin import DeviceProfileSpec, LayerFacts, ModelFacts
from tests.unit.plugins.array_context import ArrayContext

Array = np.ndarray[Any, Any]


def weights(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, Array], shape: list[Any]) -> onnx.ModelProto:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    leaving = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [entry], [leaving], stored)
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def transformer() -> onnx.ModelProto:
    """One block of attention and feed-forward over (batch, 6, 16)."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["n"]),
        *(helper.make_node("MatMul", ["n", name], [f"{name}.out"]) for name in ("q", "k", "v")),
        helper.make_node("Transpose", ["k.out"], ["k.t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q.out", "k.t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v.out"], ["mixed"]),
        helper.make_node("Add", ["mixed", "x"], ["r"]),
        helper.make_node("MatMul", ["r", "up"], ["u"]),
        helper.make_node("Add", ["u", "up.b"], ["ub"]),
        helper.make_node("Relu", ["ub"], ["ur"]),
        helper.make_node("MatMul", ["ur", "down"], ["d"]),
        helper.make_node("Add", ["d", "r"], ["y"]),
    ]
    constants = {
        "q": weights(16, 16),
        "k": weights(16, 16, seed=1),
        "v": weights(16, 16, seed=2),
        "up": weights(16, 64),
        "down": weights(64, 16),
    }
    constants |= {"up.b": weights(64), "scale": np.ones(16, np.float32), "shift": np.zeros(16, np.float32)}
    return model_of(nodes, constants, ["N", 6, 16])


def lstm(**attributes: Any) -> onnx.ModelProto:
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["sequence", "last", ""], hidden_size=12, **attributes),
        helper.make_node("Squeeze", ["last", "axes"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "head.b"], ["y"], transB=1),
    ]
    constants = {
        "w": weights(1, 48, 8),
        "r": weights(1, 48, 12),
        "b": weights(1, 96),
        "axes": np.array([0]),
        "head": weights(3, 12),
        "head.b": weights(3),
    }
    return model_of(nodes, constants, [5, "N", 8])


def run(model: onnx.ModelProto, samples: Array, saved: Path | None = None) -> Array:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if saved:
        options.optimized_model_filepath = str(saved)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": samples})[0])


def error(before: onnx.ModelProto, after: onnx.ModelProto, samples: Array) -> float:
    wanted, got = run(before, samples), run(after, samples)
    return float(np.sqrt(np.mean((wanted - got) ** 2)) / np.std(wanted))


def fused(model: onnx.ModelProto, samples: Array, folder: Path) -> Counter[str]:
    run(model, samples, folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def dynamic(model: onnx.ModelProto, folder: Path, **params: Any) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return QuantizeDynamic().apply(copy, DynamicParams(**params), ArrayContext({}, scratch=folder))


TOKENS = np.random.default_rng(5).standard_normal((20, 6, 16)).astype(np.float32)
FRAMES = np.random.default_rng(5).standard_normal((5, 20, 8)).astype(np.float32)


def test_products_with_constant_weights_run_in_one_fused_kernel_each(tmp_path: Path) -> None:
    changed = dynamic(transformer(), tmp_path)
    ops = fused(changed, TOKENS, tmp_path)
    assert ops["DynamicQuantizeMatMul"] + ops["MatMulIntegerToFloat"] == 5
    assert ops["MatMul"] + ops["FusedMatMul"] == 2
    assert error(transformer(), changed, TOKENS) < 0.05


def test_an_activation_that_three_products_read_is_quantised_once(tmp_path: Path) -> None:
    counts = Counter(node.op_type for node in dynamic(transformer(), tmp_path).graph.node)
    assert counts["MatMulInteger"] == 5
    assert counts["DynamicQuantizeLinear"] == 3


@pytest.mark.parametrize("per_channel", [True, False])
def test_lstm_becomes_the_runtime_s_integer_form(tmp_path: Path, per_channel: bool) -> None:
    changed = dynamic(lstm(), tmp_path, per_channel=per_channel)
    assert "DynamicQuantizeLSTM" in {node.op_type for node in changed.graph.node}
    assert {item.domain for item in changed.opset_import} == {"", "com.microsoft"}
    assert error(lstm(), changed, FRAMES) < 0.05


def test_lstm_of_another_form_stays_float(tmp_path: Path) -> None:
    changed = dynamic(lstm(input_forget=1), tmp_path)
    assert "LSTM" in {node.op_type for node in changed.graph.node}
    assert error(lstm(input_forget=1), changed, FRAMES) < 0.05


def test_excluded_nodes_stay_float_and_nothing_left_is_an_error(tmp_path: Path) -> None:
    changed = dynamic(transformer(), tmp_path, exclude=("q.out", "k.out", "v.out"))
    assert Counter(node.op_type for node in changed.graph.node)["MatMulInteger"] == 2
    with pytest.raises(ValueError, match="no MatMul"):
        dynamic(model_of([helper.make_node("Relu", ["x"], ["y"])], {}, ["N", 4]), tmp_path)


def test_static_quantises_the_same_transformer_and_keeps_sums_and_attention_float(tmp_path: Path) -> None:
    context = ArrayContext({"x": TOKENS}, scratch=tmp_path)
    changed = QuantizeStatic().apply(transformer(), StaticParams(), context)
    ops = fused(changed, TOKENS, tmp_path)
    assert ops["MatMulIntegerToFloat"] + ops["QGemm"] + ops["QLinearMatMul"] == 5
    assert error(transformer(), changed, TOKENS) < 0.05


def test_it_applies_to_models_that_multiply_matrices_and_says_why_not() -> None:
    facts = ModelFacts("0" * 64, 1000, 17, (), (), ops={"MatMul": 1, "Conv": 3})
    products = replace(facts, layers=(LayerFacts("a", "MatMul", weight_bytes=800),))
    convolutions = replace(facts, layers=(LayerFacts("a", "MatMul", weight_bytes=80), LayerFacts("b", "Conv", weight_bytes=900)))
    strategy, profile = QuantizeDynamic(), DeviceProfileSpec()
    assert strategy.supports(products, profile).ok
    assert "quantize.static" in strategy.supports(convolutions, profile).reason
    assert "no MatMul" in strategy.supports(replace(facts, ops={"Conv": 1}), profile).reason
    assert strategy.bind(DynamicParams(), profile).reduce_range is True
