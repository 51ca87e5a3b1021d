"""Which candidate is chosen, and what is said where none meets the goals."""

from __future__ import annotations

from dataclasses import replace

from edge_compress.domain.artifact import AppliedStep, CandidateResult, Latency, Measurement, Quality, Verdict
from edge_compress.domain.choice import choose, fallbacks, undone
from edge_compress.domain.spec import DeviceProfileSpec


def candidate(drop: float, *, p50: float | None = None, memory: int | None = None) -> CandidateResult:
    """A candidate of 1000 bytes; without ``p50`` it was judged by its quality alone."""
    quality = Quality("top1", 0.9, 0.9 - drop, drop, 1000, (0.8, 0.95))
    latency = None if p50 is None else Latency(p50, 1.2 * p50, ratio_to_float=1.0)
    return CandidateResult((), "measured", measurement=Measurement("0" * 64, 1000, 900, quality, latency, memory))


def test_the_nearest_is_one_that_was_measured_in_full_so_that_the_binding_limit_is_the_real_one() -> None:
    full = candidate(0.0, p50=0.01, memory=40 * 2**20)
    barely_worse_and_never_run = candidate(0.0101)
    choice = choose([full, barely_worse_and_never_run], DeviceProfileSpec(memory=4 * 2**20), max_drop=0.01, objective="latency")
    assert choice.verdict is Verdict.INFEASIBLE
    assert choice.binding_constraint == "memory", "the limit that no candidate keeps"
    assert choice.chosen is not None
    assert choice.chosen.measurement.latency is not None


def pipeline(*names: str, ratio: float, size: int, drop: float = 0.0) -> CandidateResult:
    """A measured pipeline of these strategies."""
    quality = Quality("top1", 0.9, 0.9 - drop, drop, 1000, (0.8, 0.95))
    latency = Latency(0.002 * ratio, 0.003 * ratio, ratio_to_float=ratio, cpu_ratio=ratio)
    measured = Measurement("0" * 64, size, size, quality, latency, 100)
    return CandidateResult(tuple(AppliedStep(name) for name in names), "measured", measurement=measured)


def told(*ran: CandidateResult, objective: str) -> tuple[str, ...]:
    """What is said to be undone when the best of these is chosen."""
    choice = choose(ran, DeviceProfileSpec(), max_drop=0.01, objective=objective)
    original = Measurement("f" * 64, 4000, 4000, latency=Latency(0.002, 0.003, ratio_to_float=1.0))
    return undone(choice, DeviceProfileSpec(), "cam", original, max_drop=0.01, objective=objective)


def test_a_step_that_made_it_slower_is_undone_and_the_figures_say_why() -> None:
    lean, with_svd = pipeline("quantize", ratio=0.58, size=1024), pipeline("lowrank.svd", "quantize", ratio=0.605, size=1024)
    said = told(lean, with_svd, objective="latency")
    assert said == ("undone: lowrank.svd made cam's artifact 4% slower (1.21 ms against 1.16 ms) and saved nothing",)


def test_what_a_step_saved_beside_the_objective_is_told() -> None:
    lean, smaller = pipeline("quantize", ratio=0.5, size=2048), pipeline("lowrank.svd", "quantize", ratio=0.6, size=1024)
    assert told(lean, smaller, objective="latency")[0].endswith("and saved only 1Ki to send")
    assert told(lean, smaller, objective="size") == (), "there it is the better one"
    bloated = pipeline("lowrank.svd", "quantize", ratio=0.5, size=4096)
    assert told(lean, bloated, objective="size") == (
        "undone: lowrank.svd made cam's artifact 100% larger (4Ki against 2Ki) and no faster",
    )
    assert told(lean, bloated, objective="energy")[0].endswith("artifact no cheaper to run and saved nothing")


def test_of_one_strategys_proposals_the_best_is_told_and_broken_limits_are_another_matter() -> None:
    lean = pipeline("quantize", ratio=0.5, size=1024)
    worse, worst = (pipeline("lowrank.svd", "quantize", ratio=ratio, size=1024) for ratio in (0.6, 0.7))
    wrong = pipeline("prune", "quantize", ratio=0.52, size=1024, drop=0.3)
    said = told(lean, worst, worse, wrong, pipeline("quantize", "other", "more", ratio=1, size=9), objective="latency")
    assert len(said) == 1
    assert "20% slower" in said[0]


def test_a_little_of_the_objective_is_not_bought_with_all_of_the_drop_that_is_allowed() -> None:
    true, near, far = (
        pipeline("a", ratio=0.5, size=1000),
        pipeline("b", ratio=0.47, size=1000, drop=0.0095),
        pipeline("c", ratio=0.44, size=1000, drop=0.0095),
    )
    small = choose([true, near], DeviceProfileSpec(), max_drop=0.01, objective="latency")
    assert small.chosen is not None
    assert small.chosen.steps == true.steps
    lost = next(item for item in small.candidates if item.state == "lost")
    assert lost.why == "latency is 0.94 times the chosen one's, not worth a drop of 0.0095 against 0.0000"
    large = choose([true, near, far], DeviceProfileSpec(), max_drop=0.01, objective="latency")
    assert large.chosen is not None
    assert large.chosen.steps == far.steps, "a sixth faster is worth it"


def test_of_equal_latencies_the_smallest_download_wins_and_a_drop_counts_against_it() -> None:
    def chosen(*ran: CandidateResult) -> str:
        found = choose(ran, DeviceProfileSpec(), max_drop=0.01, objective="latency").chosen
        assert found is not None
        return found.steps[0].strategy

    wide, narrow = pipeline("wide", ratio=0.5, size=6000, drop=0.0016), pipeline("narrow", ratio=0.504, size=3900, drop=0.0028)
    assert chosen(wide, narrow) == "narrow"
    assert chosen(wide, pipeline("slow", ratio=0.53, size=3900)) == "wide"
    assert chosen(wide, pipeline("lossy", ratio=0.5, size=5900, drop=0.009)) == "wide"


def test_the_ladder_has_the_next_best_made_otherwise_and_ends_nearest_to_the_original() -> None:
    def made(*names: str, ratio: float, digest: str, drop: float = 0.0) -> CandidateResult:
        item = pipeline(*names, ratio=ratio, size=1024, drop=drop)
        return replace(item, measurement=replace(item.measurement, sha256=digest * 64))

    best = made("tidy", "int8", ratio=0.5, digest="1")
    same_kind = made("tidy", "int8", ratio=0.55, digest="2")
    svd = made("tidy", "svd", "int8", ratio=0.6, digest="3")
    half = made("tidy", "half", ratio=0.8, digest="4")
    plain = made("tidy", ratio=1.0, digest="5")
    lossy = made("tidy", "int4", ratio=0.58, digest="6", drop=0.5)
    ran = [plain, half, svd, same_kind, best, lossy]
    choice = choose(ran, DeviceProfileSpec(), max_drop=0.01, objective="latency")
    rungs = fallbacks(choice, DeviceProfileSpec(), max_drop=0.01, objective="latency")
    assert [item.measurement.sha256[0] for item in rungs] == ["3", "5"]
    few = choose([best, same_kind, lossy], DeviceProfileSpec(), max_drop=0.01, objective="latency")
    assert fallbacks(few, DeviceProfileSpec(), max_drop=0.01, objective="latency") == []
    slow = DeviceProfileSpec(latency_p95=1e-6)
    assert fallbacks(choose(ran, slow, max_drop=0.01, objective="latency"), slow, max_drop=0.01, objective="latency") == []


def sent(name: str, *, download: int, update: int | None, drop: float = 0.0, ratio: float = 0.5) -> CandidateResult:
    """As fast as others, and what it takes to send it to new devices and to those that run what was delivered before."""
    item = pipeline(name, ratio=ratio, size=download, drop=drop)
    return replace(item, measurement=replace(item.measurement, update_bytes=update))


def test_of_equals_the_smallest_update_is_chosen_where_devices_run_an_earlier_version() -> None:
    fresh, kept = sent("fresh", download=900, update=700), sent("kept", download=1000, update=50)
    choice = choose([fresh, kept], DeviceProfileSpec(), max_drop=0.01, objective="latency")
    assert choice.chosen is not None
    assert choice.chosen.steps[0].strategy == "kept"
    assert [item.why for item in choice.candidates if item.state == "lost"] == [
        "same latency within 3%, but a larger update, more drop or more steps"
    ]
    first = choose([sent("fresh", download=900, update=None), sent("kept", download=1000, update=None)],
                   DeviceProfileSpec(), max_drop=0.01, objective="latency")  # fmt: skip
    assert first.chosen is not None
    assert first.chosen.steps[0].strategy == "fresh"


def test_a_small_update_does_not_buy_a_lost_quality_or_a_slower_model() -> None:
    fresh = sent("fresh", download=900, update=700)
    for other in (sent("lossy", download=900, update=0, drop=0.02), sent("slow", download=900, update=0, ratio=0.6)):
        chosen = choose([fresh, other], DeviceProfileSpec(), max_drop=0.01, objective="latency").chosen
        assert chosen is not None
        assert chosen.steps[0].strategy == "fresh"
