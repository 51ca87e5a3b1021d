"""The last hour of a device: minutes that pass, minutes that were idle, and what is forgotten."""

from __future__ import annotations

import sys

import pytest

from edge_compress.delivery.histories import Histories
from edge_compress.store.interface import UsageTotals


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 6000.0

    def __call__(self) -> float:
        return self.now


def totals(count: int, seconds: float, joules: float | None = None) -> UsageTotals:
    energy = {} if joules is None else {"rapl/package": joules}
    return UsageTotals({"ok": count}, duration_sum=seconds, energy=energy)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def histories(clock: Clock) -> Histories:
    return Histories(clock, lambda: 1e9 + clock.now)


def test_a_minute_is_the_mean_of_what_was_done_in_it(histories: Histories, clock: Clock) -> None:
    histories.add("cam-1", None, totals(10, 0.1, 1.0))
    histories.add("cam-1", totals(10, 0.1, 1.0), totals(20, 0.3, 4.0))
    clock.now += 60
    histories.add("cam-1", totals(20, 0.3, 4.0), totals(30, 0.35, 4.5))
    *idle, before, last = histories.points("cam-1")
    assert (len(idle), {point.mean_seconds for point in idle}) == (58, {None})
    assert (before.mean_seconds, before.joules_per_inference) == (pytest.approx(0.015), pytest.approx(0.2))
    assert (last.mean_seconds, last.joules_per_inference) == (pytest.approx(0.005), pytest.approx(0.05))
    assert (last.at, last.at - before.at) == (1e9 + clock.now, 60)


def test_without_a_meter_there_is_no_energy(histories: Histories) -> None:
    histories.add("cam-1", None, totals(10, 0.1))
    assert histories.points("cam-1")[-1].joules_per_inference is None


@pytest.mark.parametrize(("minutes", "at"), [(1, -2), (59, -60), (60, None), (61, None), (1000, None)])
def test_an_hour_later_it_is_gone(histories: Histories, clock: Clock, minutes: int, at: int | None) -> None:
    histories.add("cam-1", None, totals(10, 0.1))
    clock.now += 60 * minutes
    points = histories.points("cam-1")
    told = [index - len(points) for index, point in enumerate(points) if point.mean_seconds is not None]
    assert told == ([] if at is None else [at])
    histories.add("cam-1", totals(10, 0.1), totals(11, 0.2))
    assert histories.points("cam-1")[-1].mean_seconds == pytest.approx(0.1)


def test_who_is_not_known_has_none(histories: Histories) -> None:
    histories.add("cam-1", None, totals(10, 0.1))
    histories.forget("cam-1")
    assert histories.points("cam-1") == histories.points("stranger") == ()


def test_a_device_takes_less_than_a_kilobyte(histories: Histories, clock: Clock) -> None:
    for minute in range(200):
        histories.add("cam-1", None, totals(minute, 0.1))
        clock.now += 60
    hour = histories._hours["cam-1"]
    assert sys.getsizeof(hour) + sum(sys.getsizeof(getattr(hour, name)) for name in hour.__slots__) < 1000
