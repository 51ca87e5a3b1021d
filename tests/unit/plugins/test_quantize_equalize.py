from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_quantize.calibrate import channel_peaks
from edge_compress_quantize.equalize import equalize, pairs
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from edge_compress_quantize.wiring import Wiring
from onnx import TensorProto, helper, numpy_helper

from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_mixed import images, outputs, signal_to_noise, weights

Array = np.ndarray[Any, Any]


def uneven(shape: tuple[int, ...], seed: int) -> Array:
    """Output channels between a hundredth and ten times as large as usual, as folded batch norms leave them."""
    factors = 10 ** np.random.default_rng(seed).uniform(-2, 1, (shape[0], *[1] * (len(shape) - 1)))
    return (weights(*shape, seed=seed) * factors).astype(np.float32)


def depthwise(between: str = "Relu", *, ceiling: float = 6.0, extra: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    """Expand, depthwise, project, as mobile networks do; then a pooled Gemm."""

    def act(reads: str, makes: str) -> onnx.NodeProto:
        return helper.make_node(between, [reads, "zero", "ceiling"] if between == "Clip" else [reads], [makes])

    nodes = [
        helper.make_node("Conv", ["x", "e.w", "e.b"], ["e"], name="expand"),
        act("e", "er"),
        helper.make_node("Conv", ["er", "d.w", "d.b"], ["d"], name="depthwise", group=16, pads=[1, 1, 1, 1]),
        act("d", "dr"),
        helper.make_node("Conv", ["dr", "p.w"], ["p"], name="project"),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "h.w", "h.b"], ["y"], name="head"),
        *(extra or []),
    ]
    undone = uneven((16, 3, 1, 1), 1)
    stored = {
        "e.w": undone, "e.b": (undone.reshape(16, 3)[:, 0] * 0.3).astype(np.float32),
        "d.w": uneven((16, 1, 3, 3), 2), "d.b": np.zeros(16, np.float32),
        "p.w": weights(8, 16, 1, 1, seed=3), "h.w": weights(8, 10, seed=4), "h.b": np.ones((1, 10), np.float32),
        "zero": np.array(0, np.float32), "ceiling": np.array(ceiling, np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def equalized(model: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, int]:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    bounded = [pair.bounded for pair in pairs(Wiring(changed.graph)) if pair.bounded]
    context = ArrayContext({"x": images()}, scratch=folder)
    count = equalize(changed.graph, channel_peaks(model, bounded, context, samples=96))
    return changed, count


def largest(model: onnx.ModelProto, name: str) -> Array:
    value = next(numpy_helper.to_array(item) for item in model.graph.initializer if item.name == name)
    return np.abs(value).reshape(len(value), -1).max(axis=1)


@pytest.mark.parametrize("between", ["Relu", "LeakyRelu", "Identity", "Clip"])
def test_the_float_network_computes_the_same(tmp_path: Path, between: str) -> None:
    model = depthwise(between)
    changed, count = equalized(model, tmp_path)
    assert count == 3
    assert outputs(changed, images()) == pytest.approx(outputs(model, images()), rel=1e-3, abs=1e-4)


def test_channels_of_one_layer_come_to_the_same_size(tmp_path: Path) -> None:
    model = depthwise()
    changed, _ = equalized(model, tmp_path)
    for name in ("e.w", "d.w"):
        before, after = (largest(item, name) for item in (model, changed))
        assert after.max() / after.min() < 0.2 * before.max() / before.min()


def test_channels_that_a_bound_cuts_off_are_left_alone(tmp_path: Path) -> None:
    model = depthwise("Clip", ceiling=1e-3)
    changed, _ = equalized(model, tmp_path)
    context = ArrayContext({"x": images()}, scratch=tmp_path)
    cut = channel_peaks(model, ["e"], context, samples=96)["e"] * 1.5 >= 1e-3
    assert cut.sum() > 3
    assert largest(changed, "e.w")[cut] == pytest.approx(largest(model, "e.w")[cut])
    assert outputs(changed, images()) == pytest.approx(outputs(model, images()), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("between", "extra"),
    [("Sigmoid", []), ("Relu", [helper.make_node("Relu", ["e"], ["also"]), helper.make_node("Relu", ["d"], ["too"])])],
    ids=["no factor passes", "others read it"],
)
def test_what_cannot_be_scaled_is_no_pair(between: str, extra: list[onnx.NodeProto]) -> None:
    names = {(pair.first.name, pair.second.name) for pair in pairs(Wiring(depthwise(between, extra=extra).graph))}
    assert names == {("project", "head")}


def test_shared_weights_are_no_pair() -> None:
    model = depthwise()
    model.graph.node.append(helper.make_node("Conv", ["x", "e.w", "e.b"], ["twin"], name="twin"))
    assert "expand" not in {pair.first.name for pair in pairs(Wiring(model.graph))}


def test_one_scale_for_each_tensor_is_enough_for_a_depthwise_network(tmp_path: Path) -> None:
    model = depthwise()
    made = []
    for choice in (False, True):
        context = ArrayContext({"x": images()}, scratch=tmp_path)
        params = StaticParams(per_channel=False, equalize=choice, correct_bias=False)
        made.append(QuantizeStatic().apply(depthwise(), params, context))
    plain, changed = (signal_to_noise(model, item) for item in made)
    assert changed > plain + 6
