"""A class that turns out to miss its goals: the deployment says so and proposes; what it proposes is made only when asked for."""

from __future__ import annotations

import pytest

from edge_compress.domain.artifact import AppliedStep, Artifact, CandidateResult, Latency, Measurement, Outcome, Quality
from edge_compress.domain.calibration import Corrections, Factor
from edge_compress.domain.job import JobSpec
from edge_compress.domain.rollout import RolloutSpec
from edge_compress.domain.schema import decode, encode
from edge_compress.store.sqlite import SqliteStore
from tests.unit.delivery.makers import apply, artifact, deployment, finish, model, profile
from tests.unit.delivery.test_reconcile import Stage

RUNS, BETTER = artifact("runs"), artifact("better")


def result(made: Artifact, seconds: float, strategy: str, state: str) -> CandidateResult:
    quality = Quality("top1", 0.9, 0.9, 0.0, 100, (0.8, 0.95))
    latency = Latency(seconds, 1.2 * seconds, ratio_to_float=seconds / 0.01)
    return CandidateResult((AppliedStep(strategy),), state, measurement=Measurement(made.sha256, 10, 9, quality, latency))


def keep_outcome(store: SqliteStore, job: str, chosen: Artifact) -> None:
    """Both files were measured; the plainest of them takes twice as long here."""
    results = (result(RUNS, 0.005, "prune.structured", "lost"), result(BETTER, 0.01, "graph.optimize", "lost"))
    told = Outcome("vision", "cam", "FEASIBLE", None, None, results[chosen == BETTER], results, Measurement())
    store.apply("Outcome", job, labels={}, spec=encode(told))


def learn(store: SqliteStore, times: float) -> None:
    factors = [Factor(name, "fp32", times, 20, 4) for name in ("latency", "latency_p95")]
    store.apply("Calibration", "cam", labels={}, spec=encode(Corrections(tuple(factors))))


@pytest.fixture
def stage(store: SqliteStore) -> Stage:
    apply(store, profile("cam", latency_p95="20ms"), model())
    return Stage(store)


async def delivered(stage: Stage, **rollout: str) -> None:
    """What was chosen here is rolled out."""
    apply(stage.store, deployment(selector={"profiles": ["cam"]}, rollout=rollout))
    await stage.passes()
    (job,) = stage.jobs()
    finish(stage.store, job, RUNS)
    keep_outcome(stage.store, job, RUNS)
    await stage.passes()


def told(stage: Stage) -> list[str]:
    record = stage.store.get("Deployment", "vision")
    return [condition["type"] for condition in record.status["conditions"]]


def runs(stage: Stage) -> str:
    return decode(RolloutSpec, stage.store.get("Rollout", "vision-1").spec).artifacts["cam"]


async def test_a_class_that_keeps_its_goals_is_not_mentioned(stage: Stage) -> None:
    await delivered(stage)
    learn(stage.store, 2.0)
    await stage.passes()
    assert "Drifted" not in told(stage)


async def test_where_nothing_fits_it_says_so_and_changes_nothing(stage: Stage) -> None:
    await delivered(stage, on_drift="automatic")
    learn(stage.store, 5.0)
    await stage.passes()
    condition = stage.condition("Drifted")
    assert (condition.status, condition.reason) == ("True", "NothingFits")
    assert condition.message.startswith("cam: latency_p95 30ms is 1.50 times the 20ms allowed; nothing that was measured")
    assert len(stage.jobs()) == 1


async def test_a_class_that_keeps_them_again_is_told_too(stage: Stage) -> None:
    await delivered(stage)
    learn(stage.store, 5.0)
    await stage.passes()
    learn(stage.store, 2.0)
    await stage.passes()
    assert stage.condition("Drifted").status == "False"


class TestIntegersThatAreSlow:
    """What runs computes in integers, which the class has no instructions for; floats would keep the goals."""

    @pytest.fixture
    def stage(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Stage:
        apply(store, profile("cam", latency_p95="20ms"), model())
        made = Stage(store)
        monkeypatch.setattr(made.reconciler._misses, "_needs", {"prune.structured": ("int8",)})
        return made

    @staticmethod
    def slow(store: SqliteStore) -> None:
        pairs = (("fp32", 1.0), ("int8", 6.0))
        factors = [Factor(name, kind, ratio, 20, 4) for name in ("latency", "latency_p95") for kind, ratio in pairs]
        store.apply("Calibration", "cam", labels={}, spec=encode(Corrections(tuple(factors))))

    async def test_by_default_the_better_one_is_proposed_and_nothing_changes(self, stage: Stage) -> None:
        await delivered(stage)
        self.slow(stage.store)
        await stage.passes()
        condition = stage.condition("Drifted")
        assert (condition.status, condition.reason) == ("True", "Proposed")
        assert condition.message == (
            "cam: latency_p95 36ms is 1.80 times the 20ms allowed; proposed instead: graph.optimize (p95 12ms); "
            "set rollout.on_drift: automatic to have it made and rolled out"
        )
        assert (len(stage.jobs()), runs(stage)) == (1, RUNS.name)

    async def test_when_asked_for_it_is_made_and_rolled_out_once(self, stage: Stage) -> None:
        await delivered(stage, on_drift="automatic")
        (first,) = stage.jobs()
        self.slow(stage.store)
        await stage.passes()
        assert stage.condition("Drifted").reason == "Replanned"
        (second,) = set(stage.jobs()) - {first}
        assert decode(JobSpec, stage.store.get("Job", second).spec).corrections != Corrections()
        assert runs(stage) == RUNS.name, "until the other is there"
        finish(stage.store, second, BETTER)
        keep_outcome(stage.store, second, BETTER)
        await stage.passes()
        assert (runs(stage), stage.condition("Drifted").status) == (BETTER.name, "False")
        await stage.passes()
        assert len(stage.jobs()) == 2

    async def test_a_proposal_is_taken_up_by_asking_for_it(self, stage: Stage) -> None:
        await delivered(stage)
        self.slow(stage.store)
        await stage.passes()
        apply(stage.store, deployment(selector={"profiles": ["cam"]}, rollout={"on_drift": "automatic"}))
        await stage.passes()
        assert len(stage.jobs()) == 2
