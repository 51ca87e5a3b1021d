"""Whether a class misses its goals by what its devices report, and what would be chosen instead."""

from __future__ import annotations

from dataclasses import replace

from edge_compress.domain.artifact import AppliedStep, CandidateResult, Latency, Measurement, Outcome, Quality
from edge_compress.domain.calibration import Corrections, Factor
from edge_compress.domain.miss import Goals, Miss, missed
from edge_compress.domain.spec import DeviceProfileSpec

NEEDS = {"quantize.static": ("int8",)}
GOALS = Goals(DeviceProfileSpec(latency_p95=0.02), 0.01, "latency")
INT8, FLOAT = "a" * 64, "b" * 64


def result(sha256: str, seconds: float, strategy: str, state: str) -> CandidateResult:
    quality = Quality("top1", 0.9, 0.9, 0.0, 100, (0.8, 0.95))
    latency = Latency(seconds, 1.2 * seconds, ratio_to_float=seconds / 0.01)
    return CandidateResult((AppliedStep(strategy),), state, measurement=Measurement(sha256, 10, 9, quality, latency, 2**20))


def outcome(*results: CandidateResult) -> Outcome:
    return Outcome("vision", "cam", "FEASIBLE", None, None, results[0], results, Measurement())


def slow(int8: float, fp32: float = 1.0) -> Corrections:
    """Integers and floats take so many times as long as foretold."""
    factors = [
        Factor(quantity, kind, ratio)
        for quantity in ("latency", "latency_p95")
        for kind, ratio in (("", fp32), ("fp32", fp32), ("int8", int8))
    ]
    return Corrections(tuple(factors))


BOTH = outcome(result(INT8, 0.005, "quantize.static", "chosen"), result(FLOAT, 0.01, "graph.optimize", "lost"))


def test_a_class_that_keeps_its_goals_misses_nothing() -> None:
    assert missed(BOTH, INT8, GOALS, slow(1.5), NEEDS) is None
    assert missed(BOTH, INT8, GOALS, Corrections(), NEEDS) is None


def test_one_that_misses_them_is_told_by_how_much_and_what_keeps_them() -> None:
    assert missed(BOTH, INT8, GOALS, slow(6.0), NEEDS) == Miss(
        "latency_p95 36ms is 1.80 times the 20ms allowed",
        "proposed instead: graph.optimize (p95 12ms, memory 1Mi)",
        FLOAT,
    )


def test_a_miss_within_the_error_of_corrections_is_none() -> None:
    assert missed(BOTH, INT8, GOALS, slow(1.04 * 20 / 6), NEEDS) is None


def test_what_nobody_of_the_class_ran_is_not_judged() -> None:
    unknown = Corrections((Factor("latency", "", 6.0), Factor("latency_p95", "", 6.0)))
    assert missed(BOTH, INT8, GOALS, unknown, NEEDS) is None


def test_where_nothing_keeps_them_it_says_how_far_the_nearest_is() -> None:
    found = missed(BOTH, INT8, GOALS, slow(6.0, 2.0), NEEDS)
    assert found is not None
    assert found.better == ""
    assert found.proposal == "nothing that was measured keeps every limit: latency_p95 24ms is 1.20 times the 20ms allowed"


def test_corrected_outcomes_are_judged_by_what_was_there_before() -> None:
    first, second = BOTH.candidates
    slower = replace(first.measurement, latency=Latency(0.03, 0.036))
    corrected = replace(first, uncorrected=first.measurement, measurement=slower)
    assert missed(outcome(corrected, second), INT8, GOALS, slow(1.0), NEEDS) is None
