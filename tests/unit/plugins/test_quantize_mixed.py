"""Networks that plain int8 ruins in one place each: mixed precision must find the place, keep the rest, and say what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from onnx import TensorProto, helper, numpy_helper

from tests.unit.plugins.array_context import ArrayContext

Array = np.ndarray[Any, Any]

LAYERS = 5
PLAIN: dict[str, Any] = {"rounding": "nearest", "correct_bias": False, "equalize": False}
"""without what would repair the network before mixed precision has to"""


def weights(*shape: int, seed: int) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def images(count: int = 96) -> Array:
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


def chain(constants: dict[str, Array]) -> onnx.ModelProto:
    """Five convolutions with Relu between them, mean pooling and a Gemm; ``constants`` replaces its weights."""
    nodes, reads = [], "x"
    stored: dict[str, Array] = {}
    for index in range(LAYERS):
        name = f"conv{index}"
        stored |= {f"{name}.w": weights(16, 3 if index == 0 else 16, 3, 3, seed=index), f"{name}.b": np.zeros(16, np.float32)}
        nodes.append(helper.make_node("Conv", [reads, f"{name}.w", f"{name}.b"], [name], name=name, pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [name], [f"{name}.r"]))
        reads = f"{name}.r"
    nodes += [helper.make_node("GlobalAveragePool", [reads], ["p"]), helper.make_node("Flatten", ["p"], ["f"])]
    nodes.append(helper.make_node("Gemm", ["f", "head.w"], ["y"], name="head", transB=1))
    stored |= {"head.w": weights(10, 16, seed=99), **constants}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_outlier_channel() -> onnx.ModelProto:
    """One channel after conv1 is 20,000 times as large as the others, and conv2 weighs it down again."""
    loud, soft = weights(16, 16, 3, 3, seed=1), weights(16, 16, 3, 3, seed=2)
    loud[3] *= 2e4
    soft[:, 3] /= 2e4
    return chain({"conv1.w": loud, "conv2.w": soft})


def with_tiny_channels() -> onnx.ModelProto:
    """Channels of conv1 that count are a thousandth as large as those that do not."""
    loud, soft = weights(16, 16, 3, 3, seed=1), weights(16, 16, 3, 3, seed=2)
    loud[4:] /= 1000
    soft[:, :4] /= 1000
    soft[:, 4:] *= 1000
    return chain({"conv1.w": loud, "conv2.w": soft})


def outputs(model: onnx.ModelProto, samples: Array) -> Array:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": samples})[0])


def signal_to_noise(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """In dB, on samples that calibration did not see."""
    fresh = np.random.default_rng(7).standard_normal((200, 3, 8, 8)).astype(np.float32)
    wanted, got = outputs(before, fresh), outputs(after, fresh)
    return float(10 * np.log10(np.square(wanted - wanted.mean(axis=0)).sum() / np.square(wanted - got).sum()))


def quantized(model: onnx.ModelProto, folder: Path, **params: Any) -> tuple[onnx.ModelProto, ArrayContext]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    context = ArrayContext({"x": images()}, scratch=folder)
    return QuantizeStatic().apply(copy, StaticParams(**params), context), context


def integer_layers(model: onnx.ModelProto) -> int:
    stored = {item.name for item in model.graph.initializer if item.data_type == TensorProto.INT8 and len(item.dims) > 1}
    return sum(node.op_type == "DequantizeLinear" and node.input[0] in stored for node in model.graph.node)


def diagnoses(context: ArrayContext) -> list[str]:
    return [line for line in context.logged if line.startswith("diagnosis: ")]


@pytest.mark.parametrize(
    ("model", "params", "effect", "names"),
    [
        (with_outlier_channel(), {}, "outliers: its ", {"conv1", "conv2"}),
        (with_tiny_channels(), {"per_channel": False, **PLAIN}, "tiny channels: 12 of 16", {"conv1"}),
    ],
    ids=["outliers", "tiny channels"],
)
def test_a_collapse_is_repaired_and_its_cause_is_told(
    tmp_path: Path, model: onnx.ModelProto, params: dict[str, Any], effect: str, names: set[str]
) -> None:
    plain, _ = quantized(model, tmp_path, **params)
    mixed, context = quantized(model, tmp_path, mixed=True, agreement=1.0, **params)
    assert signal_to_noise(model, plain) < 10
    assert signal_to_noise(model, mixed) > 14
    assert 0 < integer_layers(mixed) < integer_layers(plain)
    lines = [line for line in diagnoses(context) if effect in line]
    assert lines
    assert {line.split()[1] for line in lines} <= names


def test_ranges_that_cut_off_too_much_are_chosen_anew_and_every_layer_stays_integer(tmp_path: Path) -> None:
    model, params = chain({}), {"calibration": "percentile", "percentile": 97.0}
    plain, _ = quantized(model, tmp_path, **params)
    mixed, context = quantized(model, tmp_path, mixed=True, agreement=1.0, **params)
    assert signal_to_noise(model, plain) < 10 < 14 < signal_to_noise(model, mixed)
    assert integer_layers(mixed) == integer_layers(plain) == LAYERS + 1
    assert any("clipped activations: " in line and "ranges by" in line for line in diagnoses(context))


def test_what_is_good_enough_is_the_plain_result(tmp_path: Path) -> None:
    plain, _ = quantized(chain({}), tmp_path)
    mixed, context = quantized(chain({}), tmp_path, mixed=True)
    assert mixed.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)
    assert not diagnoses(context)


def test_few_bits_are_repaired_by_wider_weights_before_anything_stays_float(tmp_path: Path) -> None:
    model = chain({})
    plain, _ = quantized(model, tmp_path, bits=5, **PLAIN)
    mixed, context = quantized(model, tmp_path, bits=5, mixed=True, agreement=1.0, **PLAIN)
    assert signal_to_noise(model, plain) < 6 < 8 < signal_to_noise(model, mixed)
    assert integer_layers(mixed) == LAYERS + 1
    steps = {item.name: len(np.unique(numpy_helper.to_array(item))) for item in mixed.graph.initializer if len(item.dims) > 1}
    assert min(steps.values()) <= 31 < max(steps.values())
    assert any("gets 8-bit weights" in line for line in diagnoses(context))


def test_a_goal_that_only_float_reaches_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layer can run in integers"):
        quantized(chain({}), tmp_path, mixed=True, goal=90.0, agreement=1.0)


def test_progress_rises_through_all_phases(tmp_path: Path) -> None:
    _, context = quantized(with_outlier_channel(), tmp_path, mixed=True)
    assert context.fractions == sorted(context.fractions)
    assert context.fractions[-1] > 0.4
