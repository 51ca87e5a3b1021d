"""How wide a student may be, and what it should cost: from the model's facts alone."""

from __future__ import annotations

import pytest
from edge_compress_distill.mobilenet import MobileNetV2
from edge_compress_distill.repvgg import RepVgg
from edge_compress_distill.sizes import expected, width_for, work_of

from edge_compress.plugin import Cost, ImageTask, LayerFacts, ModelFacts

TASK = ImageTask(3, 32, 32, 10)


def model(*layers: LayerFacts) -> ModelFacts:
    return ModelFacts("0" * 64, 400_000, 17, (), (), layers=layers, parameters=100_000)


def test_depthwise_layers_are_more_work_than_their_multiplications() -> None:
    plain = LayerFacts("a", "Conv", macs=9 * 16 * 1000, activation_bytes=4 * 1000)
    depthwise = LayerFacts("b", "Conv", macs=9 * 1000, activation_bytes=4 * 1000)
    assert work_of(model(plain)) == plain.macs
    assert work_of(model(depthwise)) == 15 * depthwise.macs


def test_the_width_is_the_largest_that_fits_both_limits() -> None:
    kind = RepVgg()
    width = width_for(kind, TASK, 20e6, 1e9)
    assert width is not None
    assert kind.cost(TASK, width).work <= 20e6 < kind.cost(TASK, width + 0.15).work
    light = width_for(kind, TASK, 20e6, 60_000)
    assert light is not None
    assert light < width
    assert kind.cost(TASK, light).weights <= 60_000


def test_nothing_fits_where_even_the_thinnest_is_too_much() -> None:
    assert width_for(RepVgg(), TASK, 1e5, 1e9) is None
    assert width_for(RepVgg(), TASK, 1e9, 1000) is None


def test_a_network_that_mostly_waits_is_not_taken() -> None:
    assert width_for(MobileNetV2(), TASK, 20e6, 1e9) is None
    assert width_for(MobileNetV2(), ImageTask(3, 224, 224, 1000), 300e6, 1e9) is not None


def test_expectations_are_shares_of_the_model() -> None:
    whole = model(LayerFacts("a", "Gemm", macs=10**6, activation_bytes=40))
    half = expected(whole, Cost(macs=4e5, weights=50_000, work=5e5))
    assert half.bytes == pytest.approx(0.5, abs=0.01)
    assert half.latency == pytest.approx(0.51)
    assert 0.5 < half.memory < 1
