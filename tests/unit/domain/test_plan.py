"""Planning and choosing: which candidates are tried, in which order, who wins, and what an infeasible verdict says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_compress.domain.artifact import AppliedStep, CandidateResult, Energy, Latency, Measurement, Quality, Verdict
from edge_compress.domain.choice import choose
from edge_compress.domain.cost import (
    comparable_joules,
    compared,
    corrected,
    excesses,
    float_seconds,
    mean_watts,
    on_device,
    predict,
    predicted_excesses,
)
from edge_compress.domain.model import LayerFacts, ModelFacts, TensorFacts
from edge_compress.domain.plan import Prediction, Proposal, Ratios, draw_up, pipelines
from edge_compress.domain.spec import Compute, DeviceProfileSpec

FACTS = ModelFacts(
    sha256="0" * 64,
    bytes=1_000_000,
    opset=18,
    inputs=(TensorFacts("x", "float32", ("N", 3)),),
    outputs=(TensorFacts("y", "float32", ("N", 2)),),
    layers=(LayerFacts("conv", "Conv", macs=4_000_000, weight_bytes=1000, activation_bytes=500),),
    weight_bytes=900_000,
    peak_activation_bytes=100_000,
)
OPTIMIZE = Proposal("graph.optimize", "1", "graph", lossless=True)
INT8 = Proposal("quantize.static", "1", "precision", {"bits": 8}, bytes_ratio=0.26, latency_ratio=0.5, golden_tolerance=0.05)
HALF = Proposal("quantize.float16", "1", "precision", bytes_ratio=0.5, latency_ratio=1.2)
THIN = Proposal("prune.magnitude", "1", "sparsity", download_ratio=0.5)
NO = Proposal("quantize.dynamic", "1", "precision", refused="does not apply, because there is no MatMul")


def result(
    name: str, *, size: int, ratio: float = 1.0, drop: float = 0.0, p95: float = 0.01, memory: int = 1000
) -> CandidateResult:
    measured = Measurement(
        sha256=name.ljust(64, "0"),
        bytes=size,
        download_bytes=size,
        quality=Quality("top1", 0.9, 0.9 - drop, drop, 1000, (0.88, 0.92)),
        latency=Latency(p95 * 0.9, p95, ratio_to_float=ratio, cpu_seconds=p95 * 0.9),
        peak_memory_bytes=memory,
    )
    return CandidateResult((AppliedStep(name),), "measured", measurement=measured)


def test_pipelines_start_with_the_original_and_join_stages_in_order() -> None:
    found = [[step.strategy for step in steps] for steps in pipelines([OPTIMIZE, INT8, HALF, THIN, NO])]
    assert found[0] == []
    assert ["graph.optimize", "quantize.static"] in found
    assert ["graph.optimize", "prune.magnitude", "quantize.static"] in found
    assert not any("quantize.dynamic" in steps for steps in found)


@pytest.mark.parametrize(("objective", "first"), [("size", "quantize.static"), ("latency", "quantize.static")])
def test_a_plan_tries_the_most_promising_first_and_lists_every_refusal(objective: str, first: str) -> None:
    profile = DeviceProfileSpec(compute=Compute(fp32=8e9))
    proposals = [OPTIMIZE, HALF, INT8, NO]
    plan = draw_up(
        "m",
        "p",
        objective,
        pipelines(proposals),
        [NO],
        lambda steps: predict(FACTS, profile, steps),
        lambda steps, predicted: None,
    )
    assert plan.candidates[0].steps[-1].strategy == first
    assert [(refusal.steps[0].strategy, refusal.why) for refusal in plan.refused] == [(NO.strategy, NO.refused)]


def test_when_all_are_hopeless_the_nearest_still_run() -> None:
    profile = DeviceProfileSpec(storage=1000)

    def hopeless(steps: tuple[Proposal, ...], predicted: Prediction) -> tuple[float, str] | None:
        over = predicted_excesses(predicted, profile)
        return (sum(item.times for item in over), over[0].words) if over else None

    wanted = pipelines([INT8, HALF])
    plan = draw_up("m", "p", "size", wanted, [], lambda steps: predict(FACTS, profile, steps), hopeless)
    assert plan.candidates[0].steps[0].strategy == "quantize.static"
    assert len(plan.candidates) + len(plan.refused) == len(wanted)
    assert all("storage" in refusal.why for refusal in plan.refused)


def test_predictions_follow_the_roofline_and_stay_unknown_without_declarations() -> None:
    declared = DeviceProfileSpec(threads=2, compute=Compute(fp32=8e9, watts_per_core=2.0))
    predicted = predict(FACTS, declared, (INT8,))
    assert predicted.bytes == 260_000
    assert predicted.latency_seconds == pytest.approx(2 * 4e6 / 16e9 * 0.5)
    assert predicted.energy_joules == pytest.approx(predicted.latency_seconds * 2 * 2.0)
    slow_memory = replace(declared, compute=replace(declared.compute, memory_bandwidth=1e3))
    assert float_seconds(FACTS, slow_memory) == pytest.approx(2.0)
    unknown = predict(FACTS, DeviceProfileSpec(), (INT8,))
    assert unknown.latency_seconds is None
    assert unknown.energy_joules is None


def test_energy_is_absent_without_declared_watts_and_follows_processor_time_with_them() -> None:
    measured = result("a", size=1).measurement
    assert on_device(measured, FACTS, DeviceProfileSpec()).energy == Energy(None, None)
    profile = DeviceProfileSpec(compute=Compute(watts_per_core=2.0), rate=5.0)
    here = on_device(measured, FACTS, profile)
    assert here.energy == Energy(pytest.approx(0.018), "estimate")  # type: ignore[arg-type]  # approx stands for a float
    assert mean_watts(here, profile) == pytest.approx(0.09)


def test_declared_arithmetic_turns_measured_ratios_into_device_latency() -> None:
    profile = DeviceProfileSpec(compute=Compute(fp32=8e9))
    latency = on_device(result("a", size=1, ratio=0.5).measurement, FACTS, profile).latency
    assert latency is not None
    assert latency.source == "predicted"
    assert latency.p50 == pytest.approx(0.5 * 2 * 4e6 / 8e9)


@pytest.mark.parametrize(
    ("profile", "constraint"),
    [
        (DeviceProfileSpec(storage=100), "storage"),
        (DeviceProfileSpec(memory=10), "memory"),
        (DeviceProfileSpec(latency_p95=0.001), "latency_p95"),
        (DeviceProfileSpec(rate=1000.0), "rate"),
        (DeviceProfileSpec(compute=Compute(watts_per_core=5.0), power_budget=1.0), "power_budget"),
    ],
)
def test_every_limit_is_checked_with_its_figures(profile: DeviceProfileSpec, constraint: str) -> None:
    measured = on_device(result("a", size=5000).measurement, FACTS, profile)
    over = excesses(measured, profile, max_drop=0.01)
    assert [item.constraint for item in over] == [constraint]
    assert over[0].times > 1
    assert "allowed" in over[0].words


def test_the_objective_picks_among_those_that_keep_every_limit() -> None:
    small, fast, bad = result("small", size=10, ratio=0.9), result("fast", size=40, ratio=0.4), result("bad", size=1, drop=0.2)
    profile = DeviceProfileSpec()
    for objective, winner in (("size", small), ("latency", fast)):
        choice = choose([small, fast, bad], profile, max_drop=0.01, objective=objective)
        assert choice.verdict is Verdict.FEASIBLE
        assert choice.chosen is not None
        assert choice.chosen.steps == winner.steps
        fates = {item.steps[0].strategy: (item.state, item.why) for item in choice.candidates}
        assert fates["bad"][0] == "lost"
        assert "top1 drops by 0.2000" in fates["bad"][1]
        assert sum(state == "chosen" for state, _ in fates.values()) == 1
        assert all(why for _, why in fates.values())


def test_timing_noise_does_not_choose() -> None:
    big, small = result("big", size=50, ratio=0.500), result("small", size=10, ratio=0.505)
    choice = choose([big, small], DeviceProfileSpec(), max_drop=0.01, objective="latency")
    assert choice.chosen is not None
    assert choice.chosen.steps == small.steps


def test_infeasible_names_the_binding_limit_the_gap_and_keeps_the_nearest() -> None:
    near, far = result("near", size=4096, ratio=0.9), result("far", size=9000, ratio=0.1)
    choice = choose([far, near], DeviceProfileSpec(storage=2048), max_drop=0.01, objective="latency")
    assert choice.verdict is Verdict.INFEASIBLE
    assert choice.binding_constraint == "storage"
    assert choice.gap == "storage 4Ki is 2.00 times the 2Ki allowed"
    assert choice.chosen is not None
    assert choice.chosen.steps == near.steps


def test_nothing_could_run_is_a_verdict_too() -> None:
    failed = CandidateResult((AppliedStep("x"),), "failed", "crash: died")
    choice = choose([failed], DeviceProfileSpec(), max_drop=0.01, objective="size")
    assert (choice.verdict, choice.chosen, choice.binding_constraint) == (Verdict.INFEASIBLE, None, "runtime")


def test_of_hopeless_pipelines_one_that_cuts_no_structure_is_kept() -> None:
    cut = [Proposal("cut", "1", "structure", {"ratio": ratio}, bytes_ratio=1 - ratio) for ratio in (0.5, 0.7, 0.9)]
    wanted = [(), *((item,) for item in cut)]

    def hopeless(steps: tuple[Proposal, ...], predicted: Prediction) -> tuple[float, str]:
        return float(predicted.bytes or 0), "too large"

    def predict(steps: tuple[Proposal, ...]) -> Prediction:
        return Prediction(bytes=round(1000 * (steps[0].bytes_ratio if steps else 1)))

    plan = draw_up("m", "p", "size", wanted, [], predict, hopeless)
    assert [item.cuts for item in plan.candidates] == [True, True, False]
    assert len(plan.refused) == 1


def test_the_measured_original_corrects_predictions_and_errors_are_told_beside_what_was_measured() -> None:
    original = replace(result("float", size=1000, p95=0.02).measurement, energy=Energy(0.02, "estimate"))
    predicted = corrected(Ratios(bytes=0.25, download=0.25, latency=0.5, memory=0.5), original)
    assert predicted == Prediction(250, 250, pytest.approx(0.009), 500, pytest.approx(0.01))  # type: ignore[arg-type]  # approx stands for a float
    beside = compared(predicted, result("a", size=200, p95=0.012, memory=1000).measurement)
    assert (beside["bytes"], beside["bytes_error"]) == (250, 0.25)
    assert (beside["latency_ms"], beside["latency_error"]) == (pytest.approx(9.0), pytest.approx(-0.1667))
    assert beside["memory_error"] == -0.5
    assert (beside["energy_mj"], beside["energy_error"]) == (pytest.approx(10.0), None), "nobody measured it"


def test_layers_reach_what_their_kind_reaches_of_the_declared_arithmetic() -> None:
    profile = DeviceProfileSpec(compute=Compute(fp32=2e9))

    def seconds(macs: int, outputs: int, weights: int) -> float | None:
        layer = LayerFacts(
            "conv", "Conv", macs=macs, weight_bytes=4 * weights, weight_count=weights, activation_bytes=4 * outputs
        )
        return float_seconds(replace(FACTS, layers=(layer,)), profile)

    assert seconds(1_000_000, 10_000, 100) == pytest.approx(1e-3), "dense: all of it"
    assert seconds(900_000, 100_000, 90) == pytest.approx(0.9e-3 / 0.2), "depthwise"
    assert seconds(1_600_000, 100_000, 256) == pytest.approx(1.6e-3 / 0.6), "few multiplications an output"
    assert seconds(1_000_000, 1000, 1_000_000) == pytest.approx(1e-3 / 0.25), "each weight is used once"


def test_energy_orders_candidates_where_no_watts_are_declared() -> None:
    heavy = ModelFacts(
        **{**vars(FACTS), "layers": (LayerFacts("fc", "Gemm", macs=1000, weight_bytes=4_000_000, weight_count=10**6),)}
    )
    few_bytes = Proposal("small", "1", "precision", bytes_ratio=0.25, latency_ratio=1.2)
    fast = Proposal("fast", "1", "structure", latency_ratio=0.7)
    plan = draw_up(
        "m",
        "p",
        "energy",
        [(fast,), (few_bytes,)],
        [],
        lambda steps: predict(heavy, DeviceProfileSpec(), steps),
        lambda steps, predicted: None,
        lambda expected: comparable_joules(heavy, expected),
    )
    assert plan.candidates[0].steps[0].strategy == "small", "traffic costs more than arithmetic here"


def test_of_hopeless_pipelines_one_of_another_kind_and_one_that_always_runs_are_kept() -> None:
    blocks = [Proposal("blocks", "1", "precision", {"bits": bits}, bytes_ratio=bits / 32) for bits in (4, 8)]
    wanted = [(), *((item,) for item in blocks), (INT8,), (HALF,)]
    plan = draw_up(
        "m",
        "p",
        "size",
        wanted,
        [],
        lambda steps: Prediction(bytes=round(1000 * (steps[0].bytes_ratio if steps else 1))),
        lambda steps, predicted: (float(predicted.bytes or 0), "too large"),
    )
    kinds = [tuple(step.strategy for step in item.steps) for item in plan.candidates]
    assert kinds == [("blocks",), ("blocks",), ("quantize.static",), ()]
