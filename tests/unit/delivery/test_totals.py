"""Joining, adding up and reading out of running totals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_compress.delivery.totals import Total, energy_per_inference, folded, in_fleet_buckets, joined, totals_of
from edge_compress.domain.histogram import quantile
from edge_compress.domain.session import LATENCY_BOUNDS, EnergyReading, UsageReport
from edge_compress.errors import InvalidInput
from edge_compress.store.interface import UsageTotals

BUCKETS = len(LATENCY_BOUNDS) + 1


@st.composite
def rows(draw: st.DrawFn) -> UsageTotals:
    counts = tuple(draw(st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS)))
    joules = draw(st.floats(0, 1e6))
    return UsageTotals({"ok": sum(counts)}, LATENCY_BOUNDS, counts, draw(st.floats(0, 1e6)), {"rapl/package": joules})


def test_a_report_becomes_totals() -> None:
    report = UsageReport("b", "m", "v", inferences={"ok": 2}, energy=(EnergyReading("estimate", "process", 0.5),))
    assert totals_of(report) == UsageTotals({"ok": 2}, energy={"estimate/process": 0.5})


@given(rows(), rows())
def test_the_order_and_repeats_of_reports_do_not_matter(one: UsageTotals, other: UsageTotals) -> None:
    both = joined(one, other)
    assert both == joined(other, one) == joined(both, one) == joined(both, both)


def test_a_boot_that_changes_its_buckets_is_refused() -> None:
    old = UsageTotals({"ok": 1}, (0.1,), (1, 0))
    with pytest.raises(InvalidInput, match="bounds"):
        joined(old, UsageTotals({"ok": 2}, (0.2,), (2, 0)))


@given(st.lists(rows(), min_size=1, max_size=6), st.randoms())
def test_a_sum_is_the_same_in_any_order_and_after_any_fold(parts: list[UsageTotals], random: object) -> None:
    straight, shuffled = Total(), Total()
    for row in parts:
        straight.replace(None, row)
    other = list(parts)
    random.shuffle(other)  # type: ignore[attr-defined]
    half = len(other) // 2
    if half:
        shuffled.replace(None, folded(None, [(f"b{index}", row) for index, row in enumerate(other[:half])]))
    for row in other[half:]:
        shuffled.replace(None, row)
    assert straight.frozen() == shuffled.frozen()


@given(rows(), rows())
def test_replacing_a_row_by_its_newer_self_never_lowers_a_sum(one: UsageTotals, other: UsageTotals) -> None:
    total = Total()
    total.replace(None, one)
    before = total.frozen()
    total.replace(one, joined(one, other))
    after = total.frozen()
    assert after.inferences["ok"] >= before.inferences["ok"]
    assert after.duration_sum >= before.duration_sum
    assert after.energy["rapl/package"] >= before.energy["rapl/package"]
    assert all(new >= old for new, old in zip(after.bucket_counts, before.bucket_counts, strict=True))


def test_a_fold_remembers_its_boots() -> None:
    row = UsageTotals({"ok": 1})
    first = folded(None, [("b1", row), ("b2", row)])
    assert (first.folded, first.inferences) == (("b1", "b2"), {"ok": 2})
    assert folded(first, [("b3", row)]).folded == ("b1", "b2", "b3")
    assert len(folded(None, [(f"b{index}", row) for index in range(1000)]).folded) == 256


def test_other_buckets_are_never_shown_faster() -> None:
    counts = in_fleet_buckets(UsageTotals({"ok": 6}, (0.0004, 20.0), (1, 2, 3)))
    above = next(index for index, bound in enumerate(LATENCY_BOUNDS) if bound >= 0.0004)
    assert counts[above] == 1
    assert counts[-1] == 5
    assert sum(counts) == 6


def test_rows_without_a_histogram_give_none() -> None:
    total = Total()
    total.replace(None, UsageTotals({"ok": 1}))
    assert total.frozen().bucket_counts == ()


def test_quantiles() -> None:
    assert quantile((1.0, 2.0), (0, 0, 0), 0.95) is None
    assert quantile((), (), 0.95) is None
    assert quantile((1.0, 2.0), (10, 10, 0), 0.75) == pytest.approx(1.5)
    assert quantile((1.0, 2.0), (0, 0, 5), 0.95) == 2.0


def test_a_meter_comes_before_an_estimate_and_the_widest_scope_counts() -> None:
    row = UsageTotals({"ok": 10}, energy={"estimate/process": 5.0, "rapl/core": 10.0, "rapl/package": 20.0})
    assert energy_per_inference(row) == (2.0, "rapl")
    assert energy_per_inference(replace(row, energy={"estimate/process": 5.0})) == (0.5, "estimate")
    assert energy_per_inference(replace(row, energy={})) is None
    assert energy_per_inference(replace(row, inferences={})) is None
