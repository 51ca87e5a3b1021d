"""The engine on a small real network: verdicts, caching, sharing, and strategies that misbehave in every way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_compress.domain.allotment import Allotment
from edge_compress.domain.calibration import Corrections, Factor
from edge_compress.domain.spec import DeviceProfile, FileRef, Model, Recipe
from edge_compress.errors import Cancelled, InvalidData, InvalidModel, InvalidSpec
from edge_compress.store.interface import Store
from edge_compress.worker.budget import Budget, Clock
from edge_compress.worker.engine import Engine, PairRequest, PairResult

MakeEngine = Callable[..., Engine]
MakeProfile = Callable[..., DeviceProfile]
MakeRecipe = Callable[..., Recipe]


def only(result: PairResult) -> Any:
    """The one candidate of a recipe's run."""
    assert len(result.outcome.candidates) == 1
    return result.outcome.candidates[0]


def test_facts_and_data_are_told_from_child_processes(make_engine: MakeEngine, digits: Model) -> None:
    engine = make_engine()
    facts = engine.facts(digits.spec.files[0].sha256)
    assert facts.macs == 640
    assert facts.batch_free
    data = engine.check_data(digits)
    assert (data["evaluation"].samples, data["evaluation"].labelled) == (597, True)
    assert (data["calibration"].samples, data["calibration"].labelled) == (200, False)


def test_a_stranger_strategy_and_metric_work_through_a_recipe(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    model = replace(digits, spec=replace(digits.spec, quality=replace(digits.spec.quality, metric="stranger.tenth")))
    result = make_engine().run(PairRequest(model, make_profile(), make_recipe("stranger.round", decimals=3)))
    assert result.outcome.verdict == "FEASIBLE"
    assert result.artifact is not None
    chosen = result.outcome.chosen
    assert chosen is not None
    assert chosen.steps[0].params == {"decimals": 3}
    quality = chosen.measurement.quality
    assert quality is not None
    assert quality.metric == "stranger.tenth"
    assert 0.8 < quality.value <= 1
    assert quality.confidence95[0] < quality.value < quality.confidence95[1]
    assert chosen.measurement.peak_memory_bytes is not None
    assert chosen.measurement.latency is not None
    assert chosen.measurement.latency.p95 >= chosen.measurement.latency.p50 > 0


@pytest.mark.parametrize(
    ("strategy", "reason", "says"),
    [
        ("hostile.crash", "crash", "died without a result"),
        ("hostile.exit", "crash", "died without a result"),
        ("hostile.hang", "timeout", "stopped after 4 s"),
        ("hostile.eat", "memory", "memory limit"),
        ("hostile.raise", "error", "KeyboardInterrupt: not yours to raise"),
        ("hostile.garbage", "output", "not an ONNX model"),
        ("hostile.interface", "output", "the outputs changed"),
        ("hostile.liar", "output", "promised to be lossless"),
        ("hostile.spy", "error", "seen []"),
    ],
)
def test_misbehaviour_is_the_candidates_recorded_failure(
    strategy: str,
    reason: str,
    says: str,
    hostile_plugin: Path,
    make_engine: MakeEngine,
    digits: Model,
    make_profile: MakeProfile,
    make_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    seen: list[tuple[str, str]] = []
    engine = make_engine(
        seconds=4 if strategy == "hostile.hang" else 60, observe=lambda name, outcome, seconds: seen.append((name, outcome))
    )
    result = engine.run(PairRequest(digits, make_profile(), make_recipe(strategy)))
    candidate = only(result)
    assert candidate.state == "failed"
    assert candidate.why.startswith(f"{reason}: ")
    assert says in candidate.why
    assert result.outcome.verdict == "INFEASIBLE"
    assert result.artifact is None
    assert seen[0][0] == strategy
    assert not list((engine.steps._scratch).iterdir()), "scratch folders are removed"


def test_a_plugin_that_dies_when_asked_does_not_take_others_along(
    hostile_plugin: Path,
    make_engine: MakeEngine,
    digits: Model,
    make_profile: MakeProfile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_compress.worker.spawn._KEPT_VARIABLES", ("PATH", "PYTHONPATH", "EDGE_COMPRESS_HOSTILE_ASKED"))
    monkeypatch.setenv("EDGE_COMPRESS_HOSTILE_ASKED", "1")
    result = make_engine().run(PairRequest(digits, make_profile(), None, "size"))
    assert result.outcome.verdict == "FEASIBLE"
    refused = [item for item in result.outcome.candidates if item.state == "refused"]
    assert any(item.steps[0].strategy == "stranger.round" and "its plugin failed when asked" in item.why for item in refused)


def test_a_second_run_computes_nothing_and_gives_the_same_bytes(
    hostile_plugin: Path,
    make_engine: MakeEngine,
    digits: Model,
    make_profile: MakeProfile,
    make_recipe: MakeRecipe,
) -> None:
    request = PairRequest(digits, make_profile(), make_recipe("stranger.round"))
    first = make_engine().run(request)
    again = make_engine()
    second = again.run(request)
    assert again.steps.computed == 0
    assert second.outcome.chosen == first.outcome.chosen
    assert second.artifact == first.artifact


def test_profiles_share_what_they_have_in_common(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile
) -> None:
    engine = make_engine()
    engine.run(PairRequest(digits, make_profile("one"), None))
    before = engine.steps.computed
    engine.run(PairRequest(digits, make_profile("two", latency_p95="50ms"), None))
    assert engine.steps.computed - before == 1, "only the question to the plugins differs"


def test_unlike_profiles_pay_for_what_is_unlike_only(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    applied: list[str] = []
    engine = make_engine(observe=lambda name, outcome, seconds: applied.append(name))

    def cost(**spec: Any) -> int:
        before = engine.steps.computed
        engine.run(PairRequest(digits, make_profile("any", **spec), make_recipe("stranger.round", decimals=4)))
        return engine.steps.computed - before

    cost()
    assert applied == ["stranger.round"]
    assert [cost(memory="64Mi"), cost(storage="1Mi"), cost(latency_p95="50ms", rate="5/s")] == [1, 1, 1], "the question alone"
    assert cost(threads=2) == 6, "the question, the times side by side, and of two files each the memory and the layers' times"
    assert cost(threads=2, precisions=["fp32"]) == 1
    assert applied == ["stranger.round"], "no profile makes it anew"


def test_what_another_pair_found_is_told_under_the_names_of_this_one(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    engine = make_engine()
    twin = replace(digits, metadata=replace(digits.metadata, name="twin"))
    engine.run(PairRequest(digits, make_profile("one"), make_recipe("stranger.round")))
    result = engine.run(PairRequest(twin, make_profile("two"), make_recipe("stranger.round")))
    assert (result.outcome.model, result.outcome.profile) == ("twin", "two")
    assert result.artifact is not None
    assert (result.artifact.model, result.artifact.profile) == ("twin", "two")
    assert result.artifact.name == f"twin-{result.artifact.version}"


def test_two_runs_at_once_share_the_steps_in_flight(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    engine = make_engine()
    engine.run(PairRequest(digits, make_profile(), make_recipe("stranger.round")))
    before = engine.steps.computed
    request = PairRequest(digits, make_profile(), make_recipe("stranger.round", decimals=5))
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: engine.run(request), range(2)))
    assert both[0].artifact == both[1].artifact
    assert engine.steps.computed - before == 8, "propose, step, convert, quality, latency, memory, golden, layers: once each"


def test_cancelling_ends_a_hanging_step_within_a_second_and_leaves_no_process(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    engine = make_engine()
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(engine.run, PairRequest(digits, make_profile(), make_recipe("hostile.hang")), cancelled=cancelled)
        pid = _wait_for_pid(engine.steps._scratch)
        cancelled.set()
        asked = time.monotonic()
        with pytest.raises(Cancelled):
            future.result(timeout=10)
    assert time.monotonic() - asked < 1.5
    assert not Path(f"/proc/{pid}").exists()


def test_infeasible_names_the_limit_and_keeps_the_nearest_artifact(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, store: Store
) -> None:
    result = make_engine().run(PairRequest(digits, make_profile(storage="64"), None, "size"))
    assert result.outcome.verdict == "INFEASIBLE"
    assert result.outcome.binding_constraint == "storage"
    assert "times the 64 allowed" in (result.outcome.gap or "")
    assert result.artifact is not None
    assert store.blobs.size(result.artifact.sha256) == result.artifact.bytes


def test_golden_vectors_are_real_samples_with_the_artifacts_own_answers(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, store: Store
) -> None:
    import numpy as np
    import onnxruntime

    artifact = make_engine().run(PairRequest(digits, make_profile(), None)).artifact
    assert artifact is not None
    with np.load(store.blobs.path(artifact.golden.sha256)) as golden:
        inputs, outputs = golden["in/x"], golden["out/scores"]
    session = onnxruntime.InferenceSession(str(store.blobs.path(artifact.sha256)))
    got = session.run(None, {"x": inputs})[0]
    assert np.abs(got - outputs).max() <= artifact.golden.atol
    assert len(inputs) == artifact.golden.samples == 4


def test_what_is_wrong_is_said_before_anything_is_computed(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe, store: Store
) -> None:
    engine = make_engine()
    with pytest.raises(InvalidModel):
        engine.facts(store.blobs.put_bytes(b"not a model at all"))
    with pytest.raises(InvalidSpec, match=r"no\.such"):
        engine.run(PairRequest(digits, make_profile(), make_recipe("no.such")))
    with pytest.raises(InvalidSpec, match="did you mean"):
        engine.run(PairRequest(digits, make_profile(runtime="onnxruntim"), None))
    bare = replace(digits, spec=replace(digits.spec, data=replace(digits.spec.data, calibration="", evaluation="")))
    with pytest.raises(InvalidData, match="quality cannot be measured"):
        engine.check_data(bare)


def test_a_budget_of_nothing_still_gives_a_verdict_with_what_was_skipped(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile
) -> None:
    result = make_engine().run(PairRequest(digits, make_profile(), None, seed=9), budget_seconds=0.0)
    assert any(item.state == "skipped" and "budget" in item.why for item in result.outcome.candidates)
    assert result.outcome.chosen is not None, "best so far is always kept"


def test_training_waits_until_the_goals_are_missed_or_a_budget_asks_for_more(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile
) -> None:
    engine = make_engine()

    def fate(result: PairResult) -> tuple[str, str]:
        found = [item for item in result.outcome.candidates if item.steps and item.steps[-1].strategy == "stranger.train"]
        return found[0].state, found[0].why

    met = fate(engine.run(PairRequest(digits, make_profile("easy", threads=3), None, "size")))
    assert met == ("refused", "not needed: goals are met without training; give a budget to look further")
    missed = engine.run(PairRequest(digits, make_profile("hard", threads=3, latency_p95="1us"), None, "size"))
    assert fate(missed)[0] in ("lost", "chosen")
    assert any("trained on 8 samples beside a teacher of 2 nodes" in line for line in missed.outcome.diagnosis)
    request = PairRequest(digits, make_profile("easy", threads=3), None, "size", seed=3)
    train = next(item for item in engine.plan(request).candidates if item.steps and item.steps[-1].strategy == "stranger.train")
    asked = engine.run(request, budget=Budget(Clock(), Allotment(20.0, (train.trained,))))
    assert fate(asked)[0] in ("lost", "chosen")
    others = [item for item in asked.outcome.candidates if "the budget is for 1 trainings of 20 s" in item.why]
    assert others, "whatever else trains was not asked for"


def test_the_key_follows_everything_that_decides_the_outcome(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    engine = make_engine()
    base = PairRequest(digits, make_profile(), None)
    others = [
        replace(base, objective="size"),
        replace(base, seed=1),
        replace(base, profile=make_profile(memory="1Mi")),
        replace(base, recipe=make_recipe("graph.optimize")),
        replace(base, corrections=Corrections(memory_added=1.0)),
        replace(base, model=replace(digits, spec=replace(digits.spec, files=digits.spec.files[::-1][:1]))),
    ]
    keys = {engine.key(item) for item in (base, *others)}
    assert len(keys) == 7
    assert engine.key(base) == make_engine().key(base)


def test_what_was_delivered_before_is_another_outcome_of_the_same_work(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile
) -> None:
    base, engine = PairRequest(digits, make_profile(), None), make_engine()
    assert engine.key(base) == engine.key(replace(base, previous="e" * 64))


def test_a_second_version_stays_near_to_the_first_where_quality_allows(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, store: Store, tmp_path: Path
) -> None:
    profile = make_profile("field")
    first = make_engine().run(PairRequest(digits, profile, None, "size"))
    assert first.artifact is not None
    assert {item.measurement.update_bytes for item in first.outcome.candidates} == {None}
    tuned = replace(digits, spec=replace(digits.spec, files=(_tuned(digits, store, tmp_path), *digits.spec.files[1:])))
    request = PairRequest(tuned, profile, None, "size", previous=first.artifact.sha256)
    second = make_engine().run(request)
    measured = [item for item in second.outcome.candidates if item.measurement.latency is not None]
    assert all(item.measurement.update_bytes is not None for item in measured)
    kept = [item for item in measured if any(step.params.get("scales_of") == first.artifact.sha256 for step in item.steps)]
    assert kept
    assert second.outcome.verdict == "FEASIBLE"
    assert second.artifact is not None
    assert second.artifact.expected.update_bytes is None
    again = make_engine()
    assert again.run(request).artifact == second.artifact
    assert again.steps.computed == 0


def test_an_earlier_artifact_that_is_gone_counts_as_none(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile
) -> None:
    request = PairRequest(digits, make_profile("field"), None, "size")
    known = make_engine().run(request)
    again = make_engine()
    assert again.run(replace(request, previous="e" * 64)).artifact == known.artifact
    assert again.steps.computed == 0


def test_a_recipe_may_name_the_earlier_artifact_and_is_told_where_there_is_none(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    first = make_engine().run(PairRequest(digits, make_profile(), make_recipe("quantize.static")))
    assert first.artifact is not None
    named = make_recipe("quantize.static", scales_of=first.artifact.sha256)
    kept = make_engine().run(PairRequest(digits, make_profile(), named))
    assert kept.artifact is not None
    assert kept.artifact.sha256 == first.artifact.sha256
    assert any("of artifact " + first.artifact.sha256[:12] in line for line in only(kept).log)
    gone = make_engine().run(PairRequest(digits, make_profile(), make_recipe("quantize.static", scales_of="e" * 64)))
    assert only(gone).state == "failed"
    assert "eeeeeeeeeeee" in only(gone).why


def _tuned(model: Model, store: Store, folder: Path) -> FileRef:
    """The model's file with every weight moved a little."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    changed, draw = onnx.load(store.blobs.path(model.spec.files[0].sha256)), np.random.default_rng(0)
    for item in changed.graph.initializer:
        value = numpy_helper.to_array(item)
        item.CopyFrom(
            numpy_helper.from_array(value + 0.01 * value.std() * draw.standard_normal(value.shape).astype("f"), item.name)
        )
    (folder / "tuned.onnx").write_bytes(changed.SerializeToString())
    return FileRef(model.spec.source, store.blobs.put_file(folder / "tuned.onnx"), (folder / "tuned.onnx").stat().st_size)


def _wait_for_pid(scratch: Path) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in scratch.glob("step-*/strategy/pid"):
            if text := path.read_text():
                return int(text)
        time.sleep(0.02)
    raise AssertionError("the step never started")


def test_what_reports_taught_is_in_the_outcome_beside_what_was_there_without_it(
    make_engine: MakeEngine, digits: Model, make_profile: MakeProfile, make_recipe: MakeRecipe
) -> None:
    twice = Corrections(tuple(Factor(name, "", 2.0) for name in ("latency", "latency_p95")), memory_added=1000.0)
    request = PairRequest(digits, make_profile(), make_recipe("graph.optimize"), corrections=twice)
    chosen = make_engine().run(request).outcome.chosen
    assert chosen is not None
    assert chosen.uncorrected is not None
    plain, told = chosen.uncorrected, chosen.measurement
    assert plain.latency is not None
    assert told.latency is not None
    assert told.latency.p50 == pytest.approx(2 * plain.latency.p50)
    assert told.latency.ratio_to_float == plain.latency.ratio_to_float
    assert told.peak_memory_bytes == (plain.peak_memory_bytes or 0) + 1000


def test_a_plan_foretells_what_devices_would_report(make_engine: MakeEngine, digits: Model, make_profile: MakeProfile) -> None:
    engine, request = make_engine(), PairRequest(digits, make_profile(), None)
    taught = Corrections((Factor("latency", "", 2.0), Factor("latency", "int8", 6.0)), memory_added=1000.0)
    before, after = engine.plan(request), engine.plan(replace(request, corrections=taught))
    known = {item.steps: item.predicted.memory_bytes for item in before.candidates if not item.steps}
    told = {item.steps: item.predicted.memory_bytes for item in after.candidates if not item.steps}
    assert known
    assert told == {steps: (memory or 0) + 1000 for steps, memory in known.items()}
