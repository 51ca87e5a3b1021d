"""Quantiles and what is usual, of counts in buckets."""

from __future__ import annotations

import pytest

from edge_compress.domain.histogram import usual, within

BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0)


def test_what_is_usual_is_finer_than_the_buckets() -> None:
    assert usual(BOUNDS, (0, 10, 0, 0, 0, 0), 12.0) == pytest.approx(1.2)


def test_what_is_usual_does_not_follow_a_few_that_take_many_times_as_long() -> None:
    assert usual(BOUNDS, (0, 98, 0, 0, 2, 0), 98 * 1.2 + 2 * 12) == pytest.approx(1.2)


def test_a_sum_that_contradicts_its_counts_moves_it_no_further_than_the_buckets() -> None:
    assert usual(BOUNDS, (0, 0, 10, 0, 0, 0), 1e9) == 8.0
    assert usual(BOUNDS, (0, 0, 10, 0, 0, 0), 0.0) == 1.0


def test_a_quantile_is_guessed_within_its_bucket() -> None:
    assert [within(BOUNDS, (0, 10, 0, 0, 0, 0), 0.95, guess) for guess in (0.5, 1.7, 9.0)] == [1.0, 1.7, 2.0]
    assert within(BOUNDS, (0, 0, 0, 0, 0, 3), 0.95, 99.0) == 16.0


def test_nothing_counted_says_nothing() -> None:
    assert usual(BOUNDS, (), 0.0) is None
    assert within((), (), 0.95, 1.0) is None
