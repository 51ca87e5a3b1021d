from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_lowrank import moments
from edge_compress_lowrank.layers import find_layers
from edge_compress_lowrank.svd import LowRankSvd, SvdParams
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import DeviceProfileSpec, InvalidSpec, LayerFacts, ModelFacts
from tests.unit.plugins.array_context import ArrayContext

Array = np.ndarray[Any, Any]
DRAW = np.random.default_rng(0)
FACTS = ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1}, layers=(LayerFacts("a", "Conv", 9, 900, 900),))


def low(outputs: int, inputs: int, *kernel: int, rank: int = 5) -> Array:
    """Weights of a low rank but for a little noise, as training leaves them."""
    width = int(np.prod((inputs, *kernel)))
    weight = DRAW.standard_normal((outputs, rank)) @ DRAW.standard_normal((rank, width)) / np.sqrt(rank * width)
    return (weight + 0.002 * DRAW.standard_normal(weight.shape)).reshape(outputs, inputs, *kernel).astype(np.float32)


CONSTANTS = {
    "w1": low(24, 4, 3, 3),
    "b1": DRAW.standard_normal(24).astype(np.float32),
    "scale": DRAW.uniform(0.5, 2, 24).astype(np.float32),
    "shift": DRAW.standard_normal(24).astype(np.float32),
    "mean": DRAW.standard_normal(24).astype(np.float32),
    "variance": DRAW.uniform(0.5, 2, 24).astype(np.float32),
    "wd": DRAW.standard_normal((24, 1, 3, 3)).astype(np.float32),
    "w2": low(32, 24, 1, 1),
    "m": low(32, 32),
    "g": low(40, 32).T.copy(),
    "c": DRAW.standard_normal(40).astype(np.float32),
    "o": low(12, 40).T.copy(),
}


def network() -> onnx.ModelProto:
    """Conv, BatchNorm, Relu, depthwise, 1 x 1, then two Gemm that share weights, one Gemm with alpha and beta, and a MatMul."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "wd"], ["d"], name="depth", group=24),
        helper.make_node("Conv", ["d", "w2"], ["p"], name="point", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["q"]),
        helper.make_node("Flatten", ["q"], ["f"]),
        helper.make_node("Gemm", ["f", "m"], ["s"], name="shared1"),
        helper.make_node("Gemm", ["s", "m"], ["t"], name="shared2"),
        helper.make_node("Gemm", ["t", "g", "c"], ["u"], name="dense", alpha=0.5, beta=2.0),
        helper.make_node("MatMul", ["u", "o"], ["y"], name="last"),
    ]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 12, 12])
    exit_ = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 12])
    stored = [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()]
    graph = helper.make_graph(nodes, "g", [entry], [exit_], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SAMPLES = np.random.default_rng(1).standard_normal((64, 4, 12, 12)).astype(np.float32) + 0.5


def split(folder: Path, **params: Any) -> tuple[onnx.ModelProto, ArrayContext]:
    context = ArrayContext({"x": SAMPLES}, scratch=folder)
    changed = LowRankSvd().apply(network(), SvdParams(**{"round_to": 2, **params}), context)
    onnx.checker.check_model(changed, full_check=True)
    return changed, context


def run(model: onnx.ModelProto) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": SAMPLES})[0])


def error(changed: onnx.ModelProto) -> float:
    want = run(network())
    return float(np.mean((run(changed) - want) ** 2) / want.var())


def facts(model: onnx.ModelProto) -> ModelFacts:
    return facts_of_model(model, "0" * 64, model.ByteSize())


@pytest.mark.parametrize("params", [{"ratio": 0.4}, {"energy": 0.99}, {"ratio": 0.3, "target": "weights"}], ids=str)
def test_it_saves_what_it_was_asked_for_and_computes_nearly_the_same(tmp_path: Path, params: dict[str, Any]) -> None:
    changed, context = split(tmp_path, **params)
    before, after = facts(network()), facts(changed)
    assert after.macs < before.macs
    assert after.weight_bytes < before.weight_bytes
    assert error(changed) < 0.01
    splittable = find_layers(network())
    if "energy" not in params:
        whole = sum(layer.macs([layer.whole]) if "target" not in params else layer.weight.size for layer in splittable)
        saved = before.macs - after.macs if "target" not in params else (before.parameters - after.parameters)
        assert saved >= params["ratio"] * whole - (100 if "target" in params else 0)  # biases come for means that moved
    assert "layers are split" in context.logged[0]
    assert context.fractions == sorted(context.fractions)


def test_depthwise_and_shared_weights_stay_and_excluded_layers_too(tmp_path: Path) -> None:
    changed, _ = split(tmp_path, energy=0.9, exclude=("point", "u"))
    kept = {node.name: node for node in changed.graph.node}
    stored = {item.name: numpy_helper.to_array(item) for item in changed.graph.initializer}
    for name, weight in (("depth", "wd"), ("shared1", "m"), ("shared2", "m"), ("point", "w2"), ("dense", "g")):
        assert np.array_equal(stored[kept[name].input[1]], CONSTANTS[weight])
    assert kept["first"].input[0] != "x"
    with pytest.raises(ValueError, match="'frist'"):
        split(tmp_path, exclude=("frist",))


def test_every_kind_of_layer_is_found_with_its_own_arithmetic() -> None:
    found = {layer.name: layer for layer in find_layers(network())}
    assert set(found) == {"first", "point", "dense", "last"}
    assert np.allclose(found["dense"].matrix, 0.5 * CONSTANTS["g"].T)
    assert np.allclose(found["dense"].bias, 2 * CONSTANTS["c"])
    assert np.array_equal(found["last"].matrix, CONSTANTS["o"].T)
    assert [found[name].size for name in ("first", "point", "dense")] == [(12, 12), (10, 10), (1,)]


def test_the_error_of_outputs_counts_with_data_and_that_of_weights_without(tmp_path: Path) -> None:
    seen, _ = split(tmp_path, ratio=0.55)
    unseen, _ = split(tmp_path, ratio=0.55, whiten=False)
    assert error(seen) < error(unseen)


def test_equal_inputs_give_equal_bytes_however_many_passes_the_data_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (split(tmp_path, ratio=0.4)[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(moments, "_PASS_BYTES", 1)
    narrow, _ = split(tmp_path, ratio=0.4)
    assert error(narrow) < 0.01
    monkeypatch.setattr(moments, "WIDEST", 30)
    assert error(split(tmp_path, ratio=0.4)[0]) < 0.05


def test_harm_is_measured_once_for_all_ratios_and_the_bytes_are_those_of_a_fresh_start(tmp_path: Path) -> None:
    context = ArrayContext({"x": SAMPLES}, scratch=tmp_path)
    asked = [
        SvdParams(round_to=2, ratio=0.4),
        SvdParams(round_to=2, ratio=0.2),
        SvdParams(round_to=2, ratio=0.3, target="weights"),
    ]
    made = [LowRankSvd().apply(network(), params, context).SerializeToString(deterministic=True) for params in asked]
    assert len(context.kept) == 1
    fresh, _ = split(tmp_path, ratio=0.2)
    assert made[1] == fresh.SerializeToString(deterministic=True)
    LowRankSvd().apply(network(), SvdParams(round_to=2, ratio=0.2, samples=64), context)
    assert len(context.kept) == 2, "other samples, other harm"


def test_where_nothing_pays_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pay for none of the model's 4 layers"):
        split(tmp_path, round_to=32)
    with pytest.raises(ValueError, match="can save"):
        split(tmp_path, ratio=0.95)
    with pytest.raises(ValueError, match=r"keeps 99\.999%"):
        split(tmp_path, energy=0.99999, whiten=False)


def test_bad_data_is_refused_by_name(tmp_path: Path) -> None:
    broken = SAMPLES.copy()
    broken[40] = np.nan
    with pytest.raises(ValueError, match="'first' takes values that are not finite"):
        LowRankSvd().apply(network(), SvdParams(round_to=2), ArrayContext({"x": broken}, scratch=tmp_path))
    with pytest.raises(ValueError, match="no calibration samples"):
        LowRankSvd().apply(network(), SvdParams(round_to=2), ArrayContext({"x": SAMPLES[:0]}, scratch=tmp_path))


def test_it_says_where_it_does_not_apply() -> None:
    strategy, profile = LowRankSvd(), DeviceProfileSpec()
    assert strategy.supports(FACTS, profile).ok
    assert "256 weights" in strategy.supports(replace(FACTS, layers=(LayerFacts("a", "Gemm", 9, 1024, 256),)), profile).reason
    assert "no Conv" in strategy.supports(replace(FACTS, layers=(LayerFacts("a", "Add", 9, 900, 900),)), profile).reason
    assert "already" in strategy.supports(replace(FACTS, ops={"QLinearConv": 1}), profile).reason


@pytest.mark.parametrize("params", [{"ratio": 0.0}, {"energy": 1.0}, {"target": "bytes"}, {"round_to": 0}], ids=str)
def test_parameters_out_of_bounds_are_refused(params: dict[str, Any]) -> None:
    from edge_compress.domain.schema import decode

    with pytest.raises(InvalidSpec, match=next(iter(params))):
        decode(SvdParams, params)


def test_more_saved_is_expected_smaller_and_faster() -> None:
    strategy = LowRankSvd()
    little, much = (strategy.expect(FACTS, SvdParams(ratio=ratio)) for ratio in (0.1, 0.4))
    assert much.latency < little.latency < 1
    assert much.bytes < little.bytes < 1
    metered = replace(DeviceProfileSpec(), storage=1 << 20)
    assert {item.target for item in strategy.propose(FACTS, metered)} == {"macs", "weights"}
    assert {item.target for item in strategy.propose(FACTS, DeviceProfileSpec())} == {"macs"}
