"""Gates: three answers, right ones, and errors that stay rare however often they are asked."""

from __future__ import annotations

import bisect
import itertools
import random

import pytest
from edge_compress_metrics.gates import EnergyPerInference, ErrorRatio, LatencyP95

from edge_compress.domain.gates import Finding, Series, Verdict, Window, judged, overall, share_bounds
from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.domain.spec import Gate

JUDGES = {metric.name: metric.judge for metric in (LatencyP95(), EnergyPerInference(), ErrorRatio())}
LATENCY = Gate("latency_p95", 0.10)
ENERGY = Gate("energy_per_inference", 0.10)
ERRORS = Gate("error_ratio", 0.10)


def window(reports: int, *, seconds: float = 0.010, joules: float | None = 0.002, errors: float = 0.0, seed: int = 0) -> Window:
    """A group with 20 inferences a report, each within a fifth of ``seconds``."""
    draw = random.Random(seed)
    counts, failed, total = [0] * (len(LATENCY_BOUNDS) + 1), 0, 0
    times, energies = Series(), Series()
    for _ in range(reports):
        took = [seconds * draw.uniform(0.8, 1.2) for _ in range(20)]
        for value in took:
            counts[bisect.bisect_left(LATENCY_BOUNDS, value)] += 1
        failed += sum(draw.random() < errors for _ in took)
        total += len(took)
        times = times.with_value(sum(took) / len(took))
        energies = energies if joules is None else energies.with_value(joules * draw.uniform(0.9, 1.1))
    return Window(total, failed, tuple(counts), times, energies, frozenset({"rapl"} if joules else ()))


def found(gate: Gate, canary: Window, control: Window) -> Finding:
    return judged(gate, {"cam": (canary, control)}, JUDGES[gate.metric])


@pytest.mark.parametrize("gate", [LATENCY, ENERGY, ERRORS])
def test_two_groups_alike_pass_and_few_reports_tell_nothing(gate: Gate) -> None:
    assert found(gate, window(60, seed=1), window(200, seed=2)).verdict == Verdict.PASS
    assert found(gate, window(1, seed=1), window(200, seed=2)).verdict == Verdict.INCONCLUSIVE
    assert found(gate, window(60), Window()).verdict == Verdict.INCONCLUSIVE
    assert judged(gate, {}, JUDGES[gate.metric]).verdict == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("gate", "worse"), [(LATENCY, {"seconds": 0.013}), (ENERGY, {"joules": 0.0026}), (ERRORS, {"errors": 0.2})]
)
def test_a_canary_that_is_worse_fails_with_the_figures(gate: Gate, worse: dict[str, float]) -> None:
    failed = found(gate, window(60, seed=1, **worse), window(200, seed=2))
    assert failed.verdict == Verdict.FAIL
    assert failed.message.startswith("cam: ")
    assert " against " in failed.message
    assert failed.canary is not None
    assert failed.control is not None
    assert failed.canary > failed.control


def test_slower_within_one_bucket_is_seen_by_the_mean() -> None:
    low, high = next(pair for pair in itertools.pairwise(LATENCY_BOUNDS) if pair[0] > 0.010)
    control, canary = low * 1.05, low * 1.05 * 1.3
    assert canary < high
    mine, theirs = ([0] * (len(LATENCY_BOUNDS) + 1) for _ in range(2))
    mine[bisect.bisect_left(LATENCY_BOUNDS, canary)] = theirs[bisect.bisect_left(LATENCY_BOUNDS, control)] = 4000
    assert mine == theirs
    slow, quick = Series(), Series()
    for _ in range(50):
        slow, quick = slow.with_value(canary), quick.with_value(control)
    pair = Window(4000, 0, tuple(mine), slow), Window(4000, 0, tuple(theirs), quick)
    assert found(LATENCY, *pair).verdict == Verdict.FAIL


def test_estimates_do_not_do_where_measured_is_required() -> None:
    estimated = window(60)
    estimated = Window(estimated.inferences, 0, estimated.counts, estimated.seconds, estimated.joules, frozenset({"estimate"}))
    assert found(ENERGY, estimated, window(60, seed=2)).verdict == Verdict.PASS
    told = found(Gate("energy_per_inference", 0.1, require="measured"), estimated, window(60, seed=2))
    assert (told.verdict, "only estimates" in told.message) == (Verdict.INCONCLUSIVE, True)
    assert found(ENERGY, window(60, joules=None), window(60, seed=2)).verdict == Verdict.INCONCLUSIVE


def test_the_worst_profile_and_the_worst_gate_speak() -> None:
    pairs = {"a": (window(60, seed=1), window(60, seed=2)), "b": (window(60, seed=3, seconds=0.02), window(60, seed=4))}
    assert judged(LATENCY, pairs, JUDGES[LATENCY.metric]).message.startswith("b: ")
    findings = [Finding("x", verdict.value, "") for verdict in Verdict]
    assert [overall(findings), overall(findings[::2]), overall(findings[:1]), overall([])] == [
        "Fail",
        "Inconclusive",
        "Pass",
        "Pass",
    ]


def test_much_of_the_canary_and_little_of_the_control_is_no_reason_to_fail() -> None:
    failed = 0
    for seed in range(60):
        canary, draw = window(900, seed=1000 + seed), random.Random(seed)
        counts, times = [0] * (len(LATENCY_BOUNDS) + 1), Series()
        for _ in range(40):
            took = [0.010 * draw.uniform(0.8, 1.2) for _ in range(20)]
            for value in took:
                counts[bisect.bisect_left(LATENCY_BOUNDS, value)] += 1
            times = times.with_value(sum(took) / len(took))
            if found(LATENCY, canary, Window(sum(counts), 0, tuple(counts), times)).verdict == Verdict.FAIL:
                failed += 1
                break
    assert failed <= 3


def test_what_is_not_a_number_is_left_out() -> None:
    assert Series().with_value(float("nan")).with_value(float("inf")).with_value(2.0) == Series(1, 2.0, 0.0)


def test_bounds_of_a_share_hold_all_along_nearly_always() -> None:
    left = 0
    for seed in range(300):
        draw, hits = random.Random(seed), 0
        for count in range(1, 301):
            hits += draw.random() < 0.05
            low, high = share_bounds(hits, count, 0.05)
            if not low <= 0.05 <= high:
                left += 1
                break
    assert left / 300 < 0.05
    assert share_bounds(0, 0, 0.05) == (0.0, 1.0)
    low, high = share_bounds(50, 1000, 0.05)
    assert 0.02 < low < 0.05 < high < 0.09


def test_a_gate_that_is_asked_again_and_again_seldom_fails_a_canary_that_is_alike() -> None:
    failed = 0
    for seed in range(200):
        draw = random.Random(seed)
        mine, theirs = Series(), Series()
        for _ in range(100):
            mine, theirs = mine.with_value(draw.gauss(1.0, 0.2)), theirs.with_value(draw.gauss(1.0, 0.2))
            pair = Window(100, joules=mine, sources=frozenset({"rapl"})), Window(100, joules=theirs, sources=frozenset({"rapl"}))
            if found(Gate("energy_per_inference", 0.0), *pair).verdict == Verdict.FAIL:
                failed += 1
                break
    assert failed / 200 < 0.05
