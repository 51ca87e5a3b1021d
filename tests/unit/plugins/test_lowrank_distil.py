"""lowrank.distil on a tiny network of full rank: splitting hurts, training makes it good under the same interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_lowrank.distil import DistilParams, LowRankDistil
from edge_compress_lowrank.svd import LowRankSvd

from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import DeviceProfileSpec, Limits, ModelFacts
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.teachers import images, teacher

PROFILE = DeviceProfileSpec()
QUICK: dict[str, Any] = {"ratio": 0.5, "epochs": 8, "batch": 16, "samples": 32}
IMAGES = images(96, size=8)


def original() -> onnx.ModelProto:
    return teacher(size=8, width=32)


@pytest.fixture
def lesson(tmp_path: Path) -> ArrayContext:
    context = ArrayContext({"image": IMAGES}, scratch=tmp_path, teacher=original())
    context.limits = Limits(seconds=600, memory_bytes=1 << 32, threads=1)
    return context


def facts() -> ModelFacts:
    model = original()
    return facts_of_model(model, "0" * 64, len(model.SerializeToString()))


def error(model: onnx.ModelProto) -> float:
    """What is not said of the differences between the original's scores, as a share."""
    want, got = (run_onnx(item, {"image": IMAGES})[0] for item in (original(), model))
    want, got = want - want.mean(1, keepdims=True), got - got.mean(1, keepdims=True)
    return float(((want - got) ** 2).mean() / np.var(want, axis=0).mean())


def trained(context: ArrayContext, **params: Any) -> onnx.ModelProto:
    model = LowRankDistil().apply(original(), DistilParams(**{**QUICK, **params}), context)
    onnx.checker.check_model(model, full_check=True)
    return model


def test_training_makes_good_what_splitting_broke(lesson: ArrayContext) -> None:
    split = LowRankSvd().apply(original(), DistilParams(**QUICK).split, lesson)
    lesson.fractions.clear()
    made = trained(lesson)
    assert error(made) < 0.7 * error(split)
    assert list(made.graph.input) == list(split.graph.input)
    assert list(made.graph.output) == list(split.graph.output)
    macs = [facts_of_model(item, "", 0).macs for item in (made, split)]
    assert macs[0] == macs[1] < 0.6 * facts().macs
    assert "agreement with the original" in lesson.logged[-1]
    assert lesson.fractions == sorted(lesson.fractions)
    assert lesson.fractions[-1] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_bytes(lesson: ArrayContext) -> None:
    first, again = (trained(lesson, epochs=1).SerializeToString(deterministic=True) for _ in range(2))
    assert first == again


def test_time_decides_how_long_it_trains(lesson: ArrayContext) -> None:
    lesson.limits = Limits(seconds=0.001, memory_bytes=1 << 32, threads=1)
    trained(lesson, epochs=None)
    assert "in 6 batches" in lesson.logged[-1] or "diagnosis: training ended" in "".join(lesson.logged)


def test_it_is_refused_where_it_cannot_work() -> None:
    strategy, model = LowRankDistil(), facts()
    assert strategy.supports(model, PROFILE).ok
    odd = type(model)(**{**vars(model), "ops": {**model.ops, "NonMaxSuppression": 1}})
    assert "NonMaxSuppression" in strategy.supports(odd, PROFILE).reason
    small = type(model)(**{**vars(model), "layers": ()})
    assert "no Conv" in strategy.supports(small, PROFILE).reason


def test_one_proposal_that_saves_more_than_those_without_training() -> None:
    (params,) = LowRankDistil().propose(facts(), PROFILE)
    assert params.ratio > max(item.ratio for item in LowRankSvd().propose(facts(), PROFILE))
    assert LowRankDistil().expect(facts(), params).latency < 0.8
