"""quantize.qat: better integers than its start, the same bytes for the same seed, reasons where it does not apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_quantize.qat import QatParams, QuantizeQat, start_of
from edge_compress_quantize.static import QuantizeStatic, StaticParams

from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.plugin import DeviceProfileSpec, Limits, ModelFacts
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_static import samples
from tests.unit.plugins.test_quantize_student import residual

FACTS = ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1}, weight_dtypes={"float32": 900})
LOW: dict[str, Any] = {"rate": 1.2, "reduce_range": True, "epochs": 20, "batch": 16}


def maps() -> onnx.ModelProto:
    """A small network up to its last map, so that answers are values and errors are what training looks at."""
    model = residual()
    del model.graph.node[5:]
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, ["N", 8, 4, 4]))
    return model


def context_for(folder: Path, seed: int = 0) -> ArrayContext:
    context = ArrayContext({"x": samples(160)}, scratch=folder, teacher=maps())
    context.seed = seed
    context.limits = Limits(seconds=3600, memory_bytes=1 << 30, threads=1)
    return context


def trained(context: ArrayContext, **params: Any) -> onnx.ModelProto:
    model = QuantizeQat().apply(maps(), QatParams(**params), context)
    onnx.checker.check_model(model, full_check=True)
    return model


def distance(model: onnx.ModelProto) -> float:
    """Squared error of the answers over their size, on samples nothing was fitted to."""
    feeds = {"x": np.random.default_rng(5).standard_normal((200, 3, 8, 8)).astype(np.float32)}
    wanted, got = run_onnx(maps(), feeds)[0], run_onnx(model, feeds)[0]
    return float(((got - wanted) ** 2).sum() / (wanted**2).sum())


def test_training_brings_few_bits_nearer_to_the_original(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    start = QuantizeStatic().apply(maps(), start_of(QatParams(**LOW)), context_for(tmp_path))
    after = trained(context, **LOW)
    assert list(after.graph.output) == list(maps().graph.output)
    assert distance(after) < 0.97 * distance(start)
    assert any(line.startswith("diagnosis: training took the integers from") for line in context.logged)
    assert context.fractions == sorted(context.fractions)


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    quick = LOW | {"epochs": 4, "learn_steps": True, "mix": 0.5}
    first, again, other = (
        trained(context_for(tmp_path, seed), **quick).SerializeToString(deterministic=True) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_bits_on_the_wire_need_no_training_and_are_spent_where_noise_harms(tmp_path: Path) -> None:
    """Against as many bits for every weight alike."""
    plain = QuantizeStatic().apply(maps(), StaticParams(bits=2), context_for(tmp_path))
    spent = QuantizeStatic().apply(maps(), StaticParams(rate=1.5), context_for(tmp_path))
    assert distance(spent) < distance(plain)


def test_bits_are_spent_by_trial_where_there_are_no_gradients(tmp_path: Path) -> None:
    model = maps()
    model.graph.node.append(onnx.helper.make_node("GlobalLpPool", ["k"], ["z"], p=2))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["N", 8, 1, 1]))
    context = ArrayContext({"x": samples()}, scratch=tmp_path, teacher=model)
    made = QuantizeStatic().apply(model, StaticParams(rate=3.0), context)
    assert any("no gradients" in line and "GlobalLpPool" in line for line in context.logged)
    wanted, got = (run_onnx(item, {"x": samples()})[0] for item in (model, made))
    assert np.abs(got - wanted).mean() < 0.1 * wanted.mean()


def test_it_says_why_it_does_not_apply() -> None:
    strategy, profile = QuantizeQat(), DeviceProfileSpec()
    assert strategy.supports(FACTS, profile).ok
    said = strategy.supports(ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1, "Loop": 1}), profile)
    assert said.reason == "no trainable form for Loop"
    assert "already" in strategy.supports(ModelFacts("0" * 64, 1, 17, (), (), ops={"QLinearConv": 1}), profile).reason


@pytest.mark.parametrize(("fast", "reduced"), [(True, False), (False, True)])
def test_the_profile_decides_the_range(fast: bool, reduced: bool) -> None:
    bound = QuantizeQat().bind(QatParams(), DeviceProfileSpec(int8_dot_product=fast))
    assert bound.reduce_range is reduced
