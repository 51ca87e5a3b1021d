"""The loop closes on simulated classes: predictions come near, and the planner chooses as one would who knows the truth."""

from __future__ import annotations

import pytest

from edge_compress.domain.calibration import QUANTITIES
from tests.bench.loop import Result, errors_of, played, summary

FLEETS = 200


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [played(10_000 + number) for number in range(FLEETS)]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_after_two_hundred_reports_a_class_predictions_are_within_a_tenth(results: list[Result], quantity: str) -> None:
    assert errors_of(results, quantity, "first") > 0.3
    assert errors_of(results, quantity, "last") < 0.1


def test_the_planner_then_chooses_what_an_oracle_would(results: list[Result]) -> None:
    assert sum(one.right_before for one in results) / FLEETS < 0.9
    assert sum(one.right_after for one in results) / FLEETS >= 0.95


def test_it_does_so_too_where_integers_and_halves_are_off_by_amounts_of_their_own() -> None:
    harder = [played(10_000 + number, 0.15) for number in range(100)]
    assert sum(one.right_after for one in harder) / len(harder) >= 0.95


def test_the_table_tells_both(results: list[Result]) -> None:
    told = summary(results, 200)
    assert told[0] == "200 classes, 200 reports each"
    assert len(told) == 2 + len(QUANTITIES) + 1
