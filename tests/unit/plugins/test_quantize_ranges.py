from __future__ import annotations

import numpy as np
import pytest
from edge_compress_quantize.ranges import BINS, CHOOSERS, RangeSettings, Statistics, choose


def seen(*batches: np.ndarray) -> Statistics:
    statistics = Statistics()
    for batch in batches:
        statistics.add(batch)
    return statistics


def test_minimum_and_maximum_are_exact_over_all_batches() -> None:
    draw = np.random.default_rng(0)
    batches = [draw.standard_normal(1000).astype(np.float32) * spread for spread in (1, 5, 2)]
    statistics = seen(*batches)
    everything = np.concatenate(batches)
    assert choose(statistics, RangeSettings("minmax")) == (everything.min(), everything.max())


def test_the_histogram_keeps_every_value_while_its_range_grows() -> None:
    draw = np.random.default_rng(0)
    batches = [draw.standard_normal(1000).astype(np.float32) * spread for spread in (0.1, 1, 10)]
    centres, counts = seen(*batches).histogram()
    everything = np.concatenate(batches)
    assert counts.sum() == everything.size
    assert float(np.dot(centres, counts) / counts.sum()) == pytest.approx(float(everything.mean()), abs=20 / BINS)


def test_percentile_leaves_out_the_share_it_says() -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[0] = 1000.0
    low, high = choose(seen(values), RangeSettings("percentile", percentile=99.0))
    inside = np.mean((values >= low) & (values <= high))
    assert inside == pytest.approx(0.98, abs=0.01)
    assert high < 5


def test_mse_cuts_a_lone_outlier_off_at_its_end_only_and_keeps_a_plain_range() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    assert choose(seen(values), RangeSettings("mse"))[1] == pytest.approx(1.0, abs=0.03)
    values[0] = 2.2
    low, high = choose(seen(values), RangeSettings("mse"))
    assert high < 2.0
    assert low == pytest.approx(-1.0, abs=0.03)


def test_entropy_cuts_a_long_thin_tail_off_and_keeps_a_full_range() -> None:
    draw = np.random.default_rng(0)
    full = draw.uniform(-1, 1, 100_000).astype(np.float32)
    low, high = choose(seen(full), RangeSettings("entropy"))
    assert (low, high) == (pytest.approx(-1, abs=0.1), pytest.approx(1, abs=0.1))
    tailed = np.concatenate([draw.standard_normal(100_000), draw.uniform(20, 40, 20)]).astype(np.float32)
    low, high = choose(seen(tailed), RangeSettings("entropy"))
    assert 2.5 < high < 15
    assert -5 < low < -2


def test_entropy_is_not_misled_by_zeros_that_relu_makes() -> None:
    values = np.random.default_rng(0).uniform(-9, 1, 200_000).astype(np.float32).clip(0)
    assert choose(seen(values), RangeSettings("entropy"))[1] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("name", sorted(CHOOSERS))
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_tensor_that_never_changes_has_a_range_with_zero_and_itself(name: str, value: float) -> None:
    low, high = choose(seen(np.full(10, value, np.float32)), RangeSettings(name))
    assert low <= min(value, 0.0)
    assert high >= max(value, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        seen(np.array([1.0, bad], np.float32))
