"""Energy of an inference, report by report, from meters that count in steps or are replaced."""

from __future__ import annotations

import pytest

from edge_compress.delivery.comparison import Comparison
from edge_compress.domain.gates import Window
from edge_compress.store.interface import UsageKey, UsageTotals

KEY = UsageKey("cam-01", "boot", "cam", "vision", "1")


def heard(*reports: tuple[int, dict[str, float]]) -> Window:
    """What a comparison makes of inferences and energies that a device reports."""
    comparison = Comparison()
    for count, energy in reports:
        row = UsageTotals(inferences={"ok": count}, duration_sum=count * 0.1, energy=energy)
        comparison.listen({KEY: row}, "cam-01", "cam", canary=True)
    return comparison.pairs()["cam"][0]


def test_what_was_before_it_began_is_no_part_of_it() -> None:
    window = heard((100, {"rapl/package": 900.0}), (110, {"rapl/package": 920.0}))
    assert (window.inferences, window.joules.count, window.joules.mean) == (10, 1, pytest.approx(2.0))


def test_a_step_of_a_coarse_meter_is_shared_by_all_inferences_since_the_last_one() -> None:
    battery = "battery/device"
    window = heard(
        (0, {battery: 36.0}), (10, {battery: 36.0}), (20, {battery: 72.0}), (30, {battery: 72.0}), (40, {battery: 108.0})
    )
    assert (window.inferences, window.joules.count, window.joules.mean) == (40, 2, pytest.approx(1.8))
    assert window.sources == {"battery"}


def test_a_meter_that_takes_over_counts_from_its_second_report_on() -> None:
    rapl, plug = {"rapl/package": 10.0}, {"rapl/package": 10.0, "external/device": 1.0}
    window = heard((0, {"rapl/package": 0.0}), (10, rapl), (20, plug), (30, {**plug, "external/device": 4.0}))
    assert window.joules.count == 2
    assert window.joules.mean == pytest.approx((1.0 + 0.3) / 2)
    assert window.sources == {"rapl", "external"}


def test_an_estimate_that_takes_over_from_a_meter_is_left_out() -> None:
    rapl, guess = {"rapl/package": 10.0}, {"rapl/package": 10.0, "estimate/process": 1.0}
    window = heard((0, {"rapl/package": 0.0}), (10, rapl), (20, guess), (30, {**guess, "estimate/process": 4.0}))
    assert (window.joules.count, window.sources) == (1, {"rapl"})


def test_without_energy_there_is_none() -> None:
    window = heard((0, {}), (10, {}), (20, {}))
    assert (window.inferences, window.joules.count, window.sources) == (20, 0, set())
