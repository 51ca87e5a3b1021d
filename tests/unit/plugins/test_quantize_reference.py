from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edge_compress_quantize.moments import Moments
from edge_compress_quantize.reference import Distance, Goal, Reference
from onnx import numpy_helper

from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_mixed import chain, images, outputs, weights


def disturbed(by: float) -> onnx.ModelProto:
    """The head's weights with noise."""
    return chain({"head.w": weights(10, 16, seed=99) + np.float32(by) * weights(10, 16, seed=5)})


def test_noise_is_the_error_over_what_varies_between_the_last_samples(tmp_path: Path) -> None:
    reference = Reference(chain({}), ArrayContext({"x": images()}, scratch=tmp_path), samples=40, among=96)
    wanted, got = (outputs(model, images()[-40:]) for model in (chain({}), disturbed(0.1)))
    expected = np.square(got - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum()
    assert reference.distance(disturbed(0.1)).noise == pytest.approx(float(expected), rel=1e-4)
    assert reference.distance(chain({})).noise == 0.0
    assert reference.distance(disturbed(0.1)).agreement is None


def test_agreement_counts_where_samples_are_enough(tmp_path: Path) -> None:
    reference = Reference(chain({}), ArrayContext({"x": images()}, scratch=tmp_path), samples=96, among=96)
    wanted, got = (outputs(model, images()).argmax(axis=1) for model in (chain({}), disturbed(1.0)))
    assert reference.distance(disturbed(1.0)).agreement == pytest.approx(float(np.mean(wanted == got)))


def test_outputs_that_are_not_finite_are_infinitely_far(tmp_path: Path) -> None:
    reference = Reference(chain({}), ArrayContext({"x": images()}, scratch=tmp_path), samples=16, among=96)
    broken = chain({})
    head = next(item for item in broken.graph.initializer if item.name == "head.w")
    head.CopyFrom(numpy_helper.from_array(np.full((10, 16), np.nan, np.float32), "head.w"))
    assert reference.distance(broken).decibels == -np.inf


@pytest.mark.parametrize(
    ("distance", "met"),
    [
        (Distance(0.01), True),
        (Distance(0.05, 0.99), True),
        (Distance(0.05, 0.90), False),
        (Distance(0.05), False),
        (Distance(0.5, 0.99), False),
    ],
)
def test_agreement_makes_up_for_a_little_noise_only(distance: Distance, met: bool) -> None:
    assert Goal(15.0, 0.95).met(distance) is met


def test_a_goal_is_eased_only_where_the_best_is_near() -> None:
    goal = Goal(15.0, 0.95)
    assert goal.eased(Distance(0.05)).decibels == pytest.approx(11.0, abs=0.1)
    assert goal.eased(Distance(0.05, 0.9)).agreement == 0.9
    assert goal.eased(Distance(0.5)) is goal
    assert goal.eased(Distance(0.001)) is goal


def test_few_rows_are_trusted_less_than_many() -> None:
    draw = np.random.default_rng(0)
    mean, second = np.zeros((1, 50)), np.empty((1, 50, 50))
    pairs = []
    for rows in (20, 20_000):
        data = draw.standard_normal((rows, 50))
        second = (data.T @ data / rows)[None]
        trusted = Moments(mean, second, rows).trusted(about_mean=True)
        assert np.allclose(np.diag(trusted[0]), np.diag(second[0]))
        pairs.append(trusted[0][0, 1:] / second[0][0, 1:])
    assert np.allclose(pairs[0], 20 / 70)
    assert np.allclose(pairs[1], 20_000 / 20_050)
