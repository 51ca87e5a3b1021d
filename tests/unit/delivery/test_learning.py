"""From running totals to reports: what came since the last look, restarts, meters, and figures that fit the buckets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_compress.delivery.learning import Heard, Subject, heard
from edge_compress.domain.calibration import Corrections, Costs, Factor
from edge_compress.domain.schema import decode, encode
from edge_compress.store.interface import UsageTotals

BOUNDS = (0.001, 0.002, 0.004, 0.008)
SUBJECT = Subject("cam-1", "v1", "fp32", Costs(0.001, 0.0012, 1000.0, 0.01))


NOTHING = Corrections()


def totals(inferences: int, seconds: float = 0.0015, joules: float = 0.02, meter: str = "rapl/package") -> UsageTotals:
    """So many inferences of about 1.5 ms."""
    counts = (0, inferences, 0, 0, 0)
    return UsageTotals({"ok": inferences}, BOUNDS, counts, inferences * seconds, {meter: inferences * joules}, (), 1400)


def listened(*looks: UsageTotals, corrections: Corrections = NOTHING) -> Heard | None:
    known: Heard | None = None
    for at, look in enumerate(looks):
        known = heard(known, look, SUBJECT, corrections, float(at))
    return known


def test_a_look_at_too_little_says_nothing_yet() -> None:
    assert listened(totals(9)) is None
    first = listened(totals(10))
    assert first is not None
    assert first.observed.reports == 1
    again = listened(totals(10), totals(15))
    assert again is not None
    assert again.mark == first.mark


def test_a_report_is_what_came_since_the_last_look() -> None:
    first, second = totals(100, 0.0011), totals(100, 0.0011)
    second = replace(second, inferences={"ok": 200}, bucket_counts=(0, 200, 0, 0, 0), duration_sum=0.11 + 0.19)
    known = listened(first, second)
    assert known is not None
    assert known.observed.reports == pytest.approx(2, abs=1e-4)
    assert known.observed.reported.latency == pytest.approx((0.0011 * 0.0019) ** 0.5, rel=1e-3)


def test_figures_and_errors_stand_beside_what_was_foretold() -> None:
    known = listened(totals(100))
    assert known is not None
    assert vars(known.observed.reported) == pytest.approx(
        {"latency": 0.0015, "latency_p95": 0.0018, "memory": 1400, "energy": 0.02}
    )
    assert vars(known.observed.errors) == pytest.approx({"latency": 1 / 3, "latency_p95": 1 / 3, "memory": 2 / 7, "energy": 0.5})
    right = Corrections((Factor("latency", "", 1.5), Factor("energy", "", 2.0)))
    corrected = listened(totals(100), corrections=right)
    assert corrected is not None
    assert (corrected.observed.errors.latency, corrected.observed.errors.energy) == pytest.approx((0, 0), abs=1e-9)
    assert corrected.observed.predicted == SUBJECT.predicted, "what is kept is uncorrected"


def test_a_device_that_was_forgotten_begins_anew() -> None:
    known = listened(totals(1000), totals(10), totals(30))
    assert known is not None
    assert known.mark.inferences == 30
    assert known.observed.reports == pytest.approx(2, abs=1e-4)


def test_the_first_joules_of_another_meter_are_not_divided_by_all_inferences() -> None:
    known = listened(totals(100, meter="estimate/process"), totals(200, meter="rapl/package"))
    assert known is not None
    assert known.observed.energy_source == "estimate"


def test_the_tail_is_that_of_many_reports() -> None:
    """One slow inference among twenty would be the 95th percentile of its report."""
    slow = UsageTotals({"ok": 20}, BOUNDS, (0, 18, 0, 2, 0), 0.04)
    usual = [
        replace(slow, inferences={"ok": n}, bucket_counts=(0, n - 2, 0, 2, 0), duration_sum=0.0015 * n) for n in (60, 100, 200)
    ]
    known = listened(slow, *usual)
    assert known is not None
    assert known.observed.reported.latency_p95 is not None
    assert known.observed.reported.latency_p95 <= 0.002


def test_what_was_heard_can_be_kept() -> None:
    known = listened(totals(100), totals(300))
    assert decode(Heard, encode(known)) == known
