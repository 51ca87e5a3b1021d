"""Joules of windows become bills: the idle draw, noise, what could not be metered."""

from __future__ import annotations

import random

import pytest

from edge_compress.agent.ledger import Ledger
from edge_compress.agent.report import Subject

ONE, TWO = Subject("boot", "vision", "1"), Subject("boot", "vision", "2")


def learned(watts: float = 3.0, shortest: float = 1.0) -> Ledger:
    ledger = Ledger(shared=True, shortest=shortest)
    for _ in range(3):
        assert ledger.close(watts * shortest, shortest) == {}
    return ledger


def ran(ledger: Ledger, subject: Subject | None = ONE, seconds: float = 0.5) -> None:
    ledger.begins()
    ledger.ends(subject, seconds)


def test_what_an_idle_device_draws_is_not_billed() -> None:
    ledger = learned(3.0)
    ran(ledger, seconds=0.5)
    assert ledger.close(3.0 * 2.0 + 4.0, 2.0) == {ONE: pytest.approx(4.0)}
    assert ledger.close(3.0, 1.0) == {}


def test_the_idle_draw_is_a_median_so_that_a_few_busy_moments_do_no_harm() -> None:
    ledger = Ledger(shared=True, shortest=1.0)
    for watts in (3.0, 3.1, 40.0, 2.9, 35.0, 3.0, 3.0):
        ledger.close(watts, 1.0)
    assert ledger.idle_watts == pytest.approx(3.0)


@pytest.mark.parametrize(("seconds", "quiet"), [(0.5, True), (1.0, False)], ids=["too short", "not quiet"])
def test_windows_that_say_nothing_of_an_idle_device_do_not_count(seconds: float, quiet: bool) -> None:
    ledger = Ledger(shared=True, shortest=1.0)
    for _ in range(5):
        ledger.close(3.0, seconds, quiet=quiet)
    assert ledger.idle_watts is None


def test_a_window_in_which_an_inference_still_runs_is_not_idle_and_is_billed_when_it_ends() -> None:
    ledger = learned(3.0)
    ledger.begins()
    assert ledger.close(3.0 + 5.0, 1.0) == {}
    assert ledger.idle_watts == 3.0
    ledger.ends(ONE, 1.7)
    assert ledger.close(3.0 + 2.0, 1.0) == {ONE: pytest.approx(7.0)}


def test_subjects_share_a_window_by_the_time_they_ran() -> None:
    ledger = learned(3.0)
    ran(ledger, ONE, 0.1)
    ran(ledger, TWO, 0.3)
    assert ledger.close(3.0 + 8.0, 1.0) == {ONE: pytest.approx(2.0), TWO: pytest.approx(6.0)}


def test_nothing_is_billed_below_nought_and_noise_evens_out() -> None:
    chance, ledger = random.Random(3), learned(3.0)
    billed = 0.0
    for _ in range(4000):
        ran(ledger)
        bills = ledger.close(3.0 + 0.2 + chance.gauss(0.0, 1.0), 1.0)
        assert all(joules > 0 for joules in bills.values())
        billed += sum(bills.values())
    assert billed == pytest.approx(4000 * 0.2, rel=0.15)


def test_what_ran_before_the_idle_draw_was_known_is_owed_and_paid_at_the_same_rate() -> None:
    ledger = Ledger(shared=True, shortest=1.0)
    ran(ledger, seconds=0.5)
    assert ledger.close(9.0, 1.0) == {}
    for _ in range(3):
        ledger.close(3.0, 1.0)
    ran(ledger, seconds=0.5)
    assert ledger.close(5.0, 1.0) == {ONE: pytest.approx(4.0)}  # 2 J, and 2 J that were owed
    ran(ledger, seconds=0.5)
    assert ledger.close(5.0, 1.0) == {ONE: pytest.approx(2.0)}


def test_the_next_counter_takes_over_what_is_owed() -> None:
    ledger = learned(3.0)
    ran(ledger, seconds=0.5)
    after = ledger.handed_on(shared=False, shortest=0.0)
    ran(after, seconds=0.5)
    assert after.close(2.0, 1.0) == {ONE: pytest.approx(4.0)}


def test_a_failed_inference_is_nobodys_bill() -> None:
    ledger = Ledger()
    ran(ledger, None)
    assert ledger.close(2.0, 1.0) == {}
