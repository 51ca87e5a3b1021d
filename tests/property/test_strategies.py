"""Every first-party strategy on random small networks: the result loads, keeps its interface, stays close, and is repeatable."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_cluster.weights import ClusterParams, ClusterWeights
from edge_compress_lowrank.svd import LowRankSvd, SvdParams
from edge_compress_prune.magnitude import MagnitudeParams, PruneMagnitude
from edge_compress_quantize.dynamic import DynamicParams, QuantizeDynamic
from edge_compress_quantize.float16 import Float16Params, QuantizeFloat16
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from edge_compress_quantize.weights import QuantizeWeights, WeightsParams
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_compress.plugin import Strategy
from tests.property.networks import network
from tests.unit.plugins.array_context import ArrayContext

Array = np.ndarray[Any, Any]

# Strategy, parameters, and the largest error it may make: root of the mean squared error, as a share of the output's deviation.
# The networks are narrow and untrained, so 8 bits are worth less here than on a real model.
CASES: list[tuple[Strategy[Any], Any, float]] = [
    (QuantizeStatic(), StaticParams(), 0.2),
    (QuantizeStatic(), StaticParams(reduce_range=True, calibration="mse"), 0.3),
    (QuantizeStatic(), StaticParams(calibration="percentile", percentile=99.9), 0.4),
    (QuantizeStatic(), StaticParams(scheme="affine", activation_scheme="symmetric"), 0.3),
    (QuantizeStatic(), StaticParams(scheme="affine", per_channel=False), 0.4),
    (QuantizeStatic(), StaticParams(activation="s8", activation_scheme="symmetric"), 0.3),
    (QuantizeStatic(), StaticParams(activation="s8", per_channel=False), 0.4),
    (QuantizeStatic(), StaticParams(bits=5), 0.6),
    (QuantizeStatic(), StaticParams(calibration="entropy"), 0.7),
    (QuantizeStatic(), StaticParams(rounding="compensated", correct_bias=True, reduce_range=True), 0.2),
    (QuantizeStatic(), StaticParams(bits=4, per_channel=False), 0.9),
    (QuantizeStatic(), StaticParams(bits=4, mixed=True), 0.6),
    (QuantizeStatic(), StaticParams(per_channel=False, mixed=True, goal=25.0, cost="macs", agreement=1.0), 0.3),
    (QuantizeDynamic(), DynamicParams(), 0.1),
    (QuantizeDynamic(), DynamicParams(per_channel=False, reduce_range=True), 0.2),
    (QuantizeFloat16(), Float16Params(), 0.02),
    (QuantizeWeights(), WeightsParams(smallest=16), 0.05),
    (QuantizeWeights(), WeightsParams(smallest=16, expand="run"), 0.05),
    (QuantizeWeights(), WeightsParams(smallest=16, bits=4, narrow_from=64), 0.9),
    (QuantizeWeights(), WeightsParams(smallest=16, bits=4, narrow_from=64, expand="run"), 0.9),
    (PruneMagnitude(), MagnitudeParams(ratio=0.0), 1e-5),
    (PruneMagnitude(), MagnitudeParams(threshold=1e-4), 0.01),
    (PruneMagnitude(), MagnitudeParams(ratio=0.1, scope="global"), 0.5),
    (PruneMagnitude(), MagnitudeParams(pattern="3:4"), 0.9),
    (LowRankSvd(), SvdParams(ratio=0.05, target="weights", round_to=1), 0.6),
    (LowRankSvd(), SvdParams(ratio=0.01, round_to=1), 0.6),
    (LowRankSvd(), SvdParams(ratio=0.02, target="weights", round_to=1, whiten=False), 0.9),
    (ClusterWeights(), ClusterParams(clusters=256, smallest=16), 0.1),
    (ClusterWeights(), ClusterParams(clusters=16, smallest=16), 0.9),
]


def run(model: onnx.ModelProto, samples: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0].shape[0]
    if not isinstance(wanted, int):
        return list(session.run(None, {"x": samples}))
    rows = [session.run(None, {"x": samples[i : i + wanted]}) for i in range(0, len(samples), wanted)]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def applied(
    strategy: Strategy[Any], params: Any, model: onnx.ModelProto, samples: Array, *, fixed: bool = False
) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with tempfile.TemporaryDirectory() as folder:
        context = ArrayContext({"x": samples}, scratch=Path(folder), fixed_batch=fixed)
        return strategy.apply(copy, params, context)


def interface(model: onnx.ModelProto) -> list[bytes]:
    return [item.SerializeToString(deterministic=True) for item in (*model.graph.input, *model.graph.output)]


def relative_error(wanted: Array, got: Array) -> float:
    return float(np.sqrt(np.mean((got - wanted) ** 2)) / (np.std(wanted) + 1e-6))


@pytest.mark.parametrize(
    ("strategy", "params", "largest"), CASES, ids=lambda value: getattr(value, "name", None) or str(value)[:60]
)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), opset=st.sampled_from([13, 14, 17, 19, 21]))
def test_strategies_keep_their_word_on_random_networks(
    strategy: Strategy[Any], params: Any, largest: float, seed: int, opset: int
) -> None:
    model, samples = network(seed, opset)
    changed = applied(strategy, params, model, samples)
    onnx.checker.check_model(changed, full_check=True)
    assert interface(changed) == interface(model)
    for wanted, got in zip(run(model, samples), run(changed, samples), strict=True):
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        assert np.isfinite(got).all()
        assert relative_error(wanted, got) <= largest


@pytest.mark.parametrize(("strategy", "params", "_"), CASES, ids=lambda value: getattr(value, "name", None) or str(value)[:60])
def test_equal_inputs_give_equal_bytes(strategy: Strategy[Any], params: Any, _: float) -> None:
    model, samples = network(7, 17)
    first, second = (applied(strategy, params, model, samples).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("strategy", [QuantizeStatic(), QuantizeFloat16()], ids=lambda item: item.name)
@pytest.mark.parametrize("seed", range(4))
def test_a_fixed_batch_is_calibrated_in_that_batch(strategy: Strategy[Any], seed: int) -> None:
    model, samples = network(seed, 17, batch=1)
    changed = applied(strategy, strategy.Params(), model, samples, fixed=True)
    for wanted, got in zip(run(model, samples), run(changed, samples), strict=True):
        assert relative_error(wanted, got) <= 0.3
