"""What reports teach: robust factors by arithmetic, memory as an amount and a factor, and corrections that never compound."""

from __future__ import annotations

import pytest

from edge_compress.domain.artifact import AppliedStep, Energy, Latency, Measurement
from edge_compress.domain.calibration import (
    HALF_LIFE,
    Corrections,
    Costs,
    Observed,
    arithmetic,
    as_reported,
    faded,
    foretold,
    learned,
    median_errors,
)
from edge_compress.domain.plan import Prediction
from edge_compress.domain.schema import decode, encode


def observed(
    ratio: float, device: str = "d1", kind: str = "fp32", *, reports: float = 5.0, at: float = 0.0, version: str = "v1"
) -> Observed:
    """A device that takes ``ratio`` times what was foretold."""
    predicted = Costs(0.01, 0.012, 1000.0, 0.1)
    reported = Costs(0.01 * ratio, 0.012 * ratio, None, 0.1 * ratio)
    return Observed(device, version, kind, predicted, reported, reports, at, "rapl")


def latency_factor(*seen: Observed, kind: str = "fp32") -> float | None:
    return learned(seen).factor("latency", kind)


def test_nothing_is_corrected_before_enough_was_reported() -> None:
    assert learned([]) == Corrections()
    assert learned([observed(2.0, reports=9.0)]) == Corrections()
    assert latency_factor(observed(2.0, reports=10.0)) == pytest.approx(2.0)


def test_devices_far_from_the_others_are_left_out() -> None:
    ratios = [1.9, 1.95, 2.0, 2.05, 2.1, 9.0, 0.1]
    assert latency_factor(*(observed(ratio, f"d{ratio}") for ratio in ratios)) == pytest.approx(2.0, rel=0.01)


def test_a_class_that_changes_is_followed() -> None:
    old = [observed(1.0, f"d{number}") for number in range(5)]
    new = [observed(3.0, f"e{number}", at=5 * HALF_LIFE) for number in range(5)]
    assert latency_factor(*old, *new) == pytest.approx(3.0, rel=0.01)


def test_silence_forgets_nothing() -> None:
    assert latency_factor(observed(2.0, reports=10.0, at=0.0)) == latency_factor(observed(2.0, reports=10.0, at=1e9))


def test_each_arithmetic_has_its_own_factor_and_one_that_never_ran_takes_that_of_float() -> None:
    seen = [observed(2.0, reports=10.0), observed(6.0, kind="int8", reports=10.0)]
    assert latency_factor(*seen, kind="int8") == pytest.approx(6.0, rel=0.02)
    assert latency_factor(*seen, kind="fp16") == pytest.approx(2.0, rel=0.02)
    assert latency_factor(observed(6.0, kind="int8", reports=10.0), kind="fp32") == pytest.approx(6.0)


def test_arithmetics_that_differ_by_chance_only_share_their_factor() -> None:
    floats = [observed(2.0 * far, f"d{far}") for far in (0.95, 0.97, 1.0, 1.03, 1.05)]
    integers = [observed(2.03 * far, f"e{far}", "int8") for far in (0.95, 0.97, 1.0, 1.03, 1.05)]
    assert latency_factor(*floats, *integers, kind="int8") == pytest.approx(latency_factor(*floats, *integers))


def test_meters_count_before_estimates() -> None:
    estimates = [Observed(f"e{n}", "v1", "fp32", Costs(energy=1.0), Costs(energy=1.0), 10.0, 0.0, "estimate") for n in range(9)]
    metered = Observed("m", "v1", "fp32", Costs(energy=1.0), Costs(energy=3.0), 10.0, 0.0, "ina")
    assert learned([*estimates, metered]).factor("energy", "fp32") == pytest.approx(3.0)


def memory(version: str, predicted: float, reported: float) -> Observed:
    return Observed("d1", version, "fp32", Costs(memory=predicted), Costs(memory=reported), 10.0)


def test_memory_of_one_size_is_an_amount_of_several_also_a_factor() -> None:
    one = learned([memory("a", 1000, 1500)])
    assert (one.memory_added, one.memory_times) == (pytest.approx(500), 1.0)
    several = learned([memory("a", 1000, 1700), memory("b", 2000, 2900), memory("c", 4000, 5300)])
    assert (several.memory_added, several.memory_times) == (pytest.approx(500), pytest.approx(1.2))
    less = learned([memory("a", 1000, 800)])
    assert (less.memory_added, less.memory_times) == (0.0, pytest.approx(0.8))


def test_a_measurement_moves_to_what_devices_report_and_its_ratio_only_as_far_as_float_does_not() -> None:
    seen = [observed(2.0, reports=10.0), observed(6.0, kind="int8", reports=10.0)]
    latency = Latency(0.01, 0.02, ratio_to_float=0.5, cpu_seconds=0.01)
    told = as_reported(Measurement(latency=latency, energy=Energy(0.1, "estimate")), learned(seen), "int8", 1)
    assert told.latency is not None
    assert (told.latency.p50, told.latency.p95, told.latency.ratio_to_float) == pytest.approx((0.06, 0.12, 1.5), rel=0.03)
    assert told.energy.joules == pytest.approx(0.6, rel=0.03)


def test_without_corrections_nothing_changes() -> None:
    measured = Measurement(latency=Latency(0.01, 0.02), peak_memory_bytes=7)
    assert as_reported(measured, Corrections(), "fp32", 2) is measured


def test_watts_that_nobody_declared_are_learned() -> None:
    busy = Observed("d", "v", "fp32", Costs(0.01, 0.01, None, 0.02), Costs(0.01, 0.01, None, 0.06), 10.0, 0.0, "ina")
    known = learned([busy])
    told = as_reported(Measurement(latency=Latency(0.1, 0.1)), known, "fp32", 2)
    assert told.energy.joules == pytest.approx(0.1 * 2 * 3)
    assert foretold(Prediction(latency_seconds=0.1), known, "fp32", 2).energy_joules == pytest.approx(0.6)
    assert foretold(Prediction(latency_seconds=0.1), Corrections(), "fp32", 2).energy_joules is None


def test_a_level_fades_and_does_not_mix_meters() -> None:
    old, new = observed(1.0, reports=9.0), observed(2.0, at=0.0, reports=1.0)
    level = faded(old, new)
    assert level.reports == 10.0
    assert level.reported.latency == pytest.approx(0.01 * 2**0.1)
    other = faded(old, Observed("d1", "v1", "fp32", new.predicted, Costs(energy=5.0), at=HALF_LIFE, energy_source="ina"))
    assert (other.reported.energy, other.energy_source) == (5.0, "ina")
    assert other.reports == pytest.approx(5.5)


def test_the_arithmetic_is_what_the_last_strategy_needs() -> None:
    needs = {"quantize.static": ("int8",), "graph.optimize": ()}
    assert arithmetic([AppliedStep("graph.optimize"), AppliedStep("quantize.static")], needs) == "int8"
    assert arithmetic([AppliedStep("graph.optimize"), AppliedStep("somebody.elses")], needs) == "fp32"


def test_errors_are_medians_and_absent_where_nothing_is_known() -> None:
    seen = [
        Observed(f"d{n}", "v", "fp32", Costs(), Costs(), errors=Costs(latency=error)) for n, error in enumerate((0.1, 0.2, 9))
    ]
    assert median_errors(seen) == {"latency": 0.2}


def test_what_is_known_can_be_kept() -> None:
    known = learned([observed(2.0, reports=10.0), memory("a", 1000, 1500)])
    assert decode(Corrections, encode(known)) == known
