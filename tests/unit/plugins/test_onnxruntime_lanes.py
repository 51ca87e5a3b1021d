"""Channels of nothing for integer kernels: which convolutions get them, and that no answer changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_onnxruntime.lanes import fill_lanes
from edge_compress_onnxruntime.target import OnnxRuntime
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.bridge.parity import run_onnx


def quantized(
    channels: int, *, group: int = 1, opset: int = 17, weight: Any = np.int8, per_channel: bool = True
) -> onnx.ModelProto:
    """(N, channels, 7, 6) -> a 3x3 convolution with 8 outputs, as pairs of QuantizeLinear and DequantizeLinear."""
    random = np.random.default_rng(channels)
    zero = 0 if weight is np.int8 else 128
    low, high = np.iinfo(weight).min + 64, np.iinfo(weight).max - 63
    scales = random.uniform(0.01, 0.02, 8 if per_channel else ()).astype(np.float32)
    stored = {
        "w": random.integers(low, high, (8, channels // group, 3, 3)).astype(weight),
        "ws": scales,
        "wz": np.full(scales.shape, zero, weight),
        "s": np.float32(0.02),
        "z": np.uint8(117),
    }
    axis = {"axis": 0} if per_channel else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], **axis),
        helper.make_node("Conv", ["d", "dw"], ["y"], pads=[1] * 4, group=group, name="first"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, 7, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 7, 6])
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "quantized", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def samples(channels: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(1).normal(size=(4, channels, 7, 6)).astype(np.float32)}


def channels_read(model: onnx.ModelProto) -> int:
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(node for node in model.graph.node if conv.input[1] in node.output)
    return next(item.dims[1] for item in model.graph.initializer if item.name == weight.input[0])


@pytest.mark.parametrize(("channels", "read"), [(1, 4), (3, 4), (6, 8), (15, 16)])
@pytest.mark.parametrize("per_channel", [True, False], ids=["scales", "scale"])
@pytest.mark.parametrize("weight", [np.int8, np.uint8])
def test_channels_are_filled_up_and_no_answer_changes(channels: int, read: int, per_channel: bool, weight: Any) -> None:
    model = quantized(channels, weight=weight, per_channel=per_channel)
    filled = fill_lanes(model)
    onnx.checker.check_model(filled, full_check=True)
    assert channels_read(filled) == read
    np.testing.assert_array_equal(run_onnx(filled, samples(channels))[0], run_onnx(model, samples(channels))[0])


@pytest.mark.parametrize(
    "model",
    [quantized(4), quantized(18), quantized(6, group=2), quantized(3, opset=11, per_channel=False)],
    ids=["fours", "many", "groups", "old"],
)
def test_others_stay_as_they_are(model: onnx.ModelProto) -> None:
    assert fill_lanes(model) is model


def test_float_models_stay_as_they_are() -> None:
    model = quantized(3)
    del model.graph.node[:3]
    model.graph.node[0].input[:] = ["x", "w"]
    assert fill_lanes(model) is model


def test_others_that_read_the_same_numbers_are_left_alone() -> None:
    model = quantized(3)
    model.graph.node.append(helper.make_node("ReduceMean", ["d"], ["mean"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, []))
    for got, want in zip(run_onnx(fill_lanes(model), samples(3)), run_onnx(model, samples(3)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_target_does_it() -> None:
    packed = onnx.load_from_string(OnnxRuntime().convert(quantized(3), None))  # type: ignore[arg-type]  # converts without a context
    assert channels_read(packed) == 4
