"""What befalls one candidate while it is measured stays its own, with a stranger's runtime that cannot run every model."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_compress.domain.allotment import Allotment
from edge_compress.domain.spec import DeviceProfile, Model, Recipe
from edge_compress.worker.budget import Budget, Clock
from edge_compress.worker.engine import Engine, PairRequest

FRAGILE = '''
import os, time
from edge_compress.plugin import InvalidData, InvalidSpec, Requires, Strategy, Target, hookimpl
from dataclasses import dataclass


@dataclass(frozen=True)
class NoParams:
    """Nothing to choose."""


class Mark(Strategy[NoParams]):
    """Leaves a mark that the runtime chokes on."""

    name = "fragile.mark"
    stage = "sparsity"
    Params = NoParams

    def propose(self, model, profile):
        if profile.threads == 4:
            raise InvalidSpec.at("ratio", 2, "a share")
        return [NoParams()]

    def apply(self, model, params, context):
        model.doc_string = "marked"
        return model


class Sleep(Strategy[NoParams]):
    """Takes its time."""

    name = "fragile.sleep"
    stage = "sparsity"
    Params = NoParams

    def propose(self, model, profile):
        return [NoParams()] if profile.threads == 3 else []

    def apply(self, model, params, context):
        time.sleep(3600)


class Lent(Strategy[NoParams]):
    """Takes calibration samples where there are some."""

    name = "fragile.lent"
    stage = "sparsity"
    Params = NoParams
    requires = Requires(calibration="optional")

    def propose(self, model, profile):
        return []

    def apply(self, model, params, context):
        try:
            said = f"{sum(len(batch) for batch in context.calibration())} samples"
        except InvalidData as error:
            said = str(error)
        context.log(f"diagnosis: lent {said}")
        return model


@dataclass(frozen=True)
class Number:
    """Any number."""

    number: int = 0


class Keep(Strategy[Number]):
    """Computes something that all its steps on a model share."""

    name = "fragile.keep"
    stage = "sparsity"
    Params = Number

    def propose(self, model, profile):
        return []

    def apply(self, model, params, context):
        def make():
            context.log("diagnosis: computed")
            return b"what it takes long to compute"

        model.doc_string = f"{context.cached('it', make).decode()} and {params.number}"
        return model


class Balk(Strategy[NoParams]):
    """Finds that training is not worth it."""

    name = "fragile.balk"
    stage = "structure"
    Params = NoParams
    requires = Requires(training=True)

    def propose(self, model, profile):
        return [NoParams()] if profile.threads == 5 else []

    def apply(self, model, params, context):
        raise ValueError("nothing to gain")


class Tame(Balk):
    """Trains, it says."""

    name = "fragile.tame"

    def apply(self, model, params, context):
        model.doc_string = "tame"
        return model


class Runtime(Target):
    """Takes every model with one thread, and dies of marked ones with two."""

    name = "fragile"
    file_name = "model.onnx"

    def convert(self, model, context):
        return model.SerializeToString(deterministic=True)

    def open(self, path, threads):
        import onnxruntime

        if threads == 2 and b"marked" in path.read_bytes():
            os._exit(7)
        session = onnxruntime.InferenceSession(str(path))
        session.run, run = (lambda inputs: run(None, dict(inputs))), session.run
        return session


@hookimpl
def edge_compress_register_strategies():
    return [Mark(), Sleep(), Lent(), Keep(), Balk(), Tame()]


@hookimpl
def edge_compress_register_targets():
    return [Runtime()]
'''


@pytest.fixture
def fragile_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the plugin above findable here and in child processes, as an installed distribution would be."""
    info = tmp_path / "site" / "edge_compress_fragile-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edge-compress-fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edge_compress]\nfragile = edge_compress_fragile\n")
    (info.parent / "edge_compress_fragile.py").write_text(FRAGILE)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(info.parent), before])))
    monkeypatch.syspath_prepend(info.parent)
    yield
    sys.modules.pop("edge_compress_fragile", None)


def test_a_candidate_that_dies_when_it_is_timed_loses_alone(
    fragile_plugin: None, make_engine: Callable[..., Engine], digits: Model, make_profile: Callable[..., DeviceProfile]
) -> None:
    profile = make_profile("two", runtime="fragile", threads=2, precisions=["fp32"])
    result = make_engine().run(PairRequest(digits, profile, None, "size"))
    assert result.outcome.verdict == "FEASIBLE"
    marked = [item for item in result.outcome.candidates if any(step.strategy == "fragile.mark" for step in item.steps)]
    died = [item for item in marked if item.state == "failed" and item.why.startswith("crash: when timed: ")]
    assert died
    others = [item for item in result.outcome.candidates if item.state in ("chosen", "lost") and item not in died]
    assert any(item.measurement.latency is not None for item in others)


def test_a_training_that_finds_nothing_to_gain_makes_room_for_another(
    fragile_plugin: None, make_engine: Callable[..., Engine], digits: Model, make_profile: Callable[..., DeviceProfile]
) -> None:
    engine = make_engine()
    request = PairRequest(digits, make_profile("five", threads=5, precisions=["fp32"]), None, "size")
    balk = next(item for item in engine.plan(request).candidates if item.steps and item.steps[-1].strategy == "fragile.balk")

    def fates(name: str, clock: Clock, seed: int = 0) -> set[tuple[str, str]]:
        result = engine.run(replace(request, seed=seed), budget=Budget(clock, Allotment(20.0, (balk.trained,))))
        made = [item for item in result.outcome.candidates if item.steps and name in [step.strategy for step in item.steps]]
        return {(item.state, item.why) for item in made}

    balked = fates("fragile.balk", Clock())
    assert {state for state, _ in balked} == {"failed", "skipped"}
    assert all(why.startswith("fragile.balk alone failed: ") for state, why in balked if state == "skipped")
    assert {state for state, _ in fates("fragile.tame", Clock())} <= {"lost", "chosen", "skipped"}
    assert {state for state, _ in fates("fragile.tame", Clock())} & {"lost", "chosen"}, "there was time left for it"
    short = fates("fragile.tame", Clock(deadline=time.monotonic() + 15), seed=1)
    assert {why for _, why in short} == {"the budget is for 1 trainings of 20 s, and others promise more"}


def test_a_plugin_that_raises_the_products_own_errors_when_asked_loses_alone(
    fragile_plugin: None, make_engine: Callable[..., Engine], digits: Model, make_profile: Callable[..., DeviceProfile]
) -> None:
    plan = make_engine().plan(PairRequest(digits, make_profile("four", threads=4), None))
    assert plan.candidates
    refused = [item.why for item in plan.refused if item.steps and item.steps[0].strategy == "fragile.mark"]
    assert refused == ["its plugin failed when asked: ratio: read 2, expected a share"]


def test_a_budget_stops_what_runs_when_it_ends(
    fragile_plugin: None, make_engine: Callable[..., Engine], digits: Model, make_profile: Callable[..., DeviceProfile]
) -> None:
    profile = make_profile("three", threads=3, precisions=["fp32"])
    result = make_engine(seconds=100).run(PairRequest(digits, profile, None, "size"), budget_seconds=1.0)
    tried = [item for item in result.outcome.candidates if item.state != "refused"]
    sleepers = [item for item in tried if any(step.strategy == "fragile.sleep" for step in item.steps)]
    assert sleepers
    assert all(item.state == "skipped" for item in sleepers)
    assert any(item.why.startswith("the time budget ended") for item in sleepers)
    assert result.artifact is not None
    assert result.outcome.seconds < 90, "nobody waited for the step's own limit"


def test_optional_calibration_is_lent_where_there_is_some(
    fragile_plugin: None,
    make_engine: Callable[..., Engine],
    digits: Model,
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    without = replace(digits, spec=replace(digits.spec, data=replace(digits.spec.data, calibration="")))
    said = [
        make_engine().run(PairRequest(model, make_profile(), make_recipe("fragile.lent"))).outcome.candidates[0].log
        for model in (digits, without)
    ]
    assert said == [("lent 200 samples",), ("lent spec.data.calibration: there are no calibration samples",)]


def test_what_steps_of_one_strategy_share_is_computed_once(
    fragile_plugin: None,
    make_engine: Callable[..., Engine],
    digits: Model,
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    ran = [
        make_engine().run(PairRequest(digits, make_profile(), make_recipe("fragile.keep", number=number))).outcome
        for number in (1, 2)
    ]
    assert [outcome.candidates[0].log for outcome in ran] == [("computed",), ()]
    assert [outcome.candidates[0].state for outcome in ran] == ["chosen", "chosen"]
