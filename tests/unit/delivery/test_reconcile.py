"""Reconciling over a real store with a real fleet: from deployments to jobs, rollouts and assignments, restarts in between."""

from __future__ import annotations

import asyncio
import bisect
import sys
import time
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from edge_compress.delivery.control import RolloutControl
from edge_compress.delivery.fleet import Fleet, FleetSettings
from edge_compress.delivery.moving import Mover
from edge_compress.delivery.reconcile import Reconciler, ReconcileSettings
from edge_compress.delivery.sessions import Session
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.artifact import Artifact
from edge_compress.domain.calibration import Corrections, Factor
from edge_compress.domain.command import Command
from edge_compress.domain.job import JobSpec, JobState
from edge_compress.domain.resource import Condition, ResourceStatus
from edge_compress.domain.rollout import RolloutStatus
from edge_compress.domain.schema import decode, encode
from edge_compress.domain.session import LATENCY_BOUNDS, Assignment, Move, UsageReport
from edge_compress.domain.spec import DeviceProfile, Model, Recipe
from edge_compress.errors import Conflict, InvalidSpec
from edge_compress.plugin import hookimpl
from edge_compress.plugin.registry import Registry
from edge_compress.store.sqlite import SqliteStore
from tests.unit.delivery.makers import apply, artifact, committed, deployment, finish, hello, model, profile, sha

FIRST, SECOND, OTHER = artifact("first"), artifact("second"), artifact("other")


class Stage:
    """A store, a fleet and a reconciler, and everything a test wants to know of them."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now = 1000.0
        self.moved: list[tuple[str, str, str]] = []
        self.asked = 0
        self.registry = Registry.load(only=["metrics", "onnxruntime"])
        self.registry.register(self._listener(), name="listener")
        self.restart()

    def restart(self) -> None:
        """A new server on the same store, as after a kill: nothing is told to the old one."""
        self.fleet = Fleet(self.store, UsageLedger(self.store), FleetSettings(heartbeat_seconds=60), clock=lambda: self.now)
        self.fleet._book.load()
        self.reconciler = Reconciler(self.store, self.fleet, self.registry, self._key, clock=lambda: self.now)

    async def passes(self, count: int = 3) -> None:
        for _ in range(count):
            await self.reconciler.reconcile()

    async def join(self, name: str, **fields: Any) -> Session:
        return await self.fleet.join(hello(name, **fields))

    def jobs(self) -> list[str]:
        return [record.name for record in self.store.list("Job").records]

    def rollout(self, name: str = "vision-1") -> RolloutStatus:
        return decode(RolloutStatus, self.store.get("Rollout", name).status)

    def condition(self, kind: str, name: str = "vision") -> Condition:
        status = decode(ResourceStatus, self.store.get("Deployment", name).status)
        assert status.observed_generation == self.store.get("Deployment", name).generation
        return next(condition for condition in status.conditions if condition.type == kind)

    def offered(self) -> list[str]:
        return sorted(device.name for device in self.fleet.devices() if device.status.offered)

    def _key(self, model: Model, profile: DeviceProfile, recipe: Recipe | None, objective: str, corrections: Corrections) -> str:
        self.asked += 1
        if model.spec.source == "broken.onnx":
            raise InvalidSpec("the model cannot be compressed")
        return sha(f"{model.spec} {profile} {recipe} {objective}" + (f" {corrections}" if corrections != Corrections() else ""))

    def _listener(self) -> types.ModuleType:
        plugin = types.ModuleType("listener")

        def edge_compress_rollout_moved(rollout: str, old: str, new: str) -> None:
            self.moved.append((rollout, old, new))

        plugin.edge_compress_rollout_moved = hookimpl(edge_compress_rollout_moved)  # type: ignore[attr-defined]
        return plugin


def learned(store: SqliteStore, times: float, profile: str = "cam") -> Corrections:
    """What devices of a profile taught: they take ``times`` as long as foretold."""
    known = Corrections((Factor("latency", "", times, 20, 4),))
    store.apply("Calibration", profile, labels={}, spec=encode(known))
    return known


@pytest.fixture
def stage(store: SqliteStore) -> Stage:
    apply(store, profile("cam"), profile("mcu"), model())
    return Stage(store)


def sent(session: Session) -> Assignment | None:
    return session._assignment


async def test_each_selected_pair_gets_one_job(stage: Stage) -> None:
    apply(stage.store, deployment())
    await stage.passes()
    (cam, mcu) = stage.jobs()
    assert cam.startswith("vision-cam-")
    assert mcu.startswith("vision-mcu-")
    assert len(cam.removeprefix("vision-cam-")) == 10
    job = stage.store.get("Job", cam)
    assert dict(job.labels) == {"model": "vision", "profile": "cam", "deployment": "vision"}
    assert job.spec["key"].startswith(cam.removeprefix("vision-cam-"))
    assert stage.asked == 2
    assert stage.condition("Compressed").reason == "Compressing"


async def test_a_selector_limits_the_profiles(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["mcu"]}))
    await stage.passes()
    assert [name[:10] for name in stage.jobs()] == ["vision-mcu"]


async def test_equal_work_of_two_deployments_is_one_job_and_final_work_is_not_redone(stage: Stage) -> None:
    apply(stage.store, deployment("one", selector={"profiles": ["cam"]}), deployment("two", selector={"profiles": ["cam"]}))
    await stage.passes()
    (job,) = stage.jobs()
    finish(stage.store, job, FIRST)
    await stage.passes()
    apply(stage.store, deployment("two", selector={"profiles": ["cam"]}, rollout={"soak": "1s"}))
    await stage.passes()
    assert stage.jobs() == [job]
    assert stage.store.get("Job", job).status["state"] == "Succeeded"


async def test_a_changed_model_is_compressed_again(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    await stage.passes()
    apply(stage.store, model(quality={"max_drop": 0.02}))
    await stage.passes()
    assert len(stage.jobs()) == 2


async def test_what_was_given_up_is_done_anew_once_it_is_declared_again(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    await stage.passes()
    (job,) = stage.jobs()
    after = max(stage.store.get("Model", "vision").updated_at, stage.store.get("DeviceProfile", "cam").updated_at) + 1
    stage.store.set_status("Job", job, {"state": "Cancelled", "finished_at": after})
    await stage.passes()
    assert stage.store.get("Job", job).status["state"] == "Cancelled"
    assert stage.condition("Compressed").reason == "Cancelled"
    stage.store.set_status("Job", job, {"state": "Cancelled", "finished_at": 1.0})
    await stage.passes()
    assert stage.store.get("Job", job).status.get("state", "Queued") == "Queued"


async def test_a_pair_that_cannot_be_compressed_is_told(stage: Stage) -> None:
    apply(stage.store, model(source="broken.onnx"), deployment(selector={"profiles": ["cam"]}))
    await stage.passes()
    assert stage.jobs() == []
    told = stage.condition("Compressed")
    assert (told.status, told.reason, told.message) == ("False", "Invalid", "cam: the model cannot be compressed")


async def test_only_feasible_artifacts_are_delivered(stage: Stage) -> None:
    apply(stage.store, deployment())
    cam, mcu = await stage.join("cam-1"), await stage.join("mcu-1", profile="mcu")
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    finish(stage.store, stage.jobs()[1], OTHER, JobState.INFEASIBLE, "memory: 2 times over")
    await stage.passes()
    assert sent(cam).artifact == FIRST
    assert sent(mcu) is None
    assert stage.store.get("Rollout", "vision-1").spec["artifacts"] == {"cam": FIRST.name}
    told = stage.condition("Compressed")
    assert (told.status, told.reason, told.message) == ("False", "Infeasible", "mcu: memory: 2 times over")


async def test_a_rollout_goes_to_its_end(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    session = await stage.join("cam-1")
    await stage.passes()
    assert stage.condition("RolledOut").reason == "Waiting"
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    assert stage.condition("RolledOut").reason == "Progressing"
    assert stage.condition("Compressed").status == "True"
    await stage.fleet.moved(session, committed(sent(session).id, FIRST))
    await stage.passes()
    assert stage.rollout().state == "Completed"
    assert stage.rollout().devices == {"Committed": 1}
    assert stage.moved == [("vision-1", "Pending", "Progressing"), ("vision-1", "Progressing", "Completed")]
    assert (stage.condition("RolledOut").status, stage.condition("RolledOut").reason) == ("True", "Completed")
    before = stage.store.revision()
    await stage.passes()
    assert stage.store.revision() == before


async def _two_steps(stage: Stage, count: int = 10) -> list[Session]:
    """A rollout in two steps over ``count`` devices, the first step just begun."""
    apply(stage.store, deployment(selector={"profiles": ["cam"]}, rollout={"steps": ["20%", "100%"], "min_executed": 1}))
    sessions = [await stage.join(f"cam-{index}") for index in range(count)]
    await stage.passes(1)
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    return sessions


async def test_a_step_reaches_its_share_and_a_restart_the_same_devices(stage: Stage) -> None:
    await _two_steps(stage)
    first = stage.offered()
    assert len(first) == 2
    stage.restart()
    sessions = [await stage.join(f"cam-{index}") for index in range(10)]
    await stage.passes()
    assert stage.offered() == first
    assert [session.device for session in sessions if sent(session)] == first


async def test_good_devices_open_the_next_step_and_a_bad_one_stops_it(stage: Stage) -> None:
    sessions = await _two_steps(stage)
    for session in sessions:
        if sent(session):
            await stage.fleet.moved(session, committed(sent(session).id, FIRST))
    await stage.passes()
    assert len(stage.offered()) == 10
    late = next(session for session in sessions if stage.fleet._book.get(session.device).status.state == "Idle")
    await stage.fleet.moved(late, Move(sent(late).id, "RolledBack", "golden vectors differ"))
    await stage.passes()
    assert stage.rollout().state == "Aborted"
    assert stage.condition("RolledOut").reason == "Aborted"
    newcomer = await stage.join("cam-99")
    await stage.passes()
    assert sent(newcomer) is None


async def test_a_silent_device_ends_a_rollout_at_its_deadline(stage: Stage) -> None:
    sessions = await _two_steps(stage)
    for session in sessions:
        await stage.fleet.leave(session)
    stage.now += 599
    await stage.passes()
    assert stage.rollout().state == "Progressing"
    stage.now += 2
    await stage.passes()
    assert stage.rollout().state == "Aborted"


async def test_time_in_which_the_server_was_away_is_no_devices_silence(stage: Stage) -> None:
    await _two_steps(stage)
    stage.now += 3600
    stage.restart()
    await stage.passes()
    assert stage.rollout().state == "Progressing"
    stage.now += 601
    await stage.passes()
    assert stage.rollout().state == "Aborted", "silent since the restart too"


async def test_devices_that_are_away_hold_nothing_up_and_join_when_they_come_back(stage: Stage) -> None:
    away = await stage.join("cam-0")
    await stage.fleet.leave(away)
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    here = await stage.join("cam-1")
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    await stage.fleet.moved(here, committed(sent(here).id, FIRST))
    await stage.passes()
    assert stage.rollout().state == "Completed"
    back = await stage.join("cam-0")
    await stage.passes()
    assert sent(back).artifact == FIRST
    assert stage.rollout().state == "Progressing"
    await stage.fleet.moved(back, committed(sent(back).id, FIRST))
    await stage.passes()
    assert stage.rollout().state == "Completed"


async def test_labels_select_devices(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"], "labels": {"site": "a"}}))
    inside, outside = await stage.join("cam-1", labels={"site": "a"}), await stage.join("cam-2", labels={"site": "b"})
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    assert sent(inside) is not None
    assert sent(outside) is None


async def test_a_newer_generation_supersedes_and_what_already_runs_is_not_sent_again(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    session = await stage.join("cam-1")
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    told = sent(session)
    await stage.fleet.moved(session, committed(told.id, FIRST))
    await stage.passes()
    apply(stage.store, deployment(selector={"profiles": ["cam"]}, rollout={"soak": "1s"}))
    await stage.passes()
    assert stage.rollout("vision-1").state == "Superseded"
    assert "vision-2" in stage.rollout("vision-1").message
    assert session.told == told.id
    stage.now += 2
    await stage.passes()
    assert stage.rollout("vision-2").state == "Completed"


async def test_a_replaced_artifact_starts_the_rollout_over(stage: Stage) -> None:
    sessions = await _two_steps(stage)
    for session in sessions:
        await stage.fleet.moved(session, committed(session.told or "vision-1.x", FIRST))
    await stage.passes()
    apply(stage.store, model(quality={"max_drop": 0.02}))
    await stage.passes()
    newer = next(name for name in stage.jobs() if "state" not in stage.store.get("Job", name).status)
    finish(stage.store, newer, SECOND)
    await stage.passes()
    assert (stage.rollout().state, stage.rollout().step) == ("Progressing", 0)
    assert sum(sent(session) is not None and sent(session).artifact == SECOND for session in sessions) == 2


async def test_an_aborted_rollout_is_not_revived_by_another_profile(stage: Stage) -> None:
    apply(stage.store, deployment(rollout={"steps": ["50%", "100%"], "min_executed": 1}))
    session = await stage.join("cam-1")
    await stage.passes()
    cam, mcu = stage.jobs()
    finish(stage.store, cam, FIRST)
    await stage.passes()
    await stage.fleet.moved(session, Move(sent(session).id, "RolledBack", "no"))
    await stage.passes()
    assert stage.rollout().state == "Aborted"
    finish(stage.store, mcu, OTHER)
    await stage.passes()
    assert stage.rollout().state == "Aborted"


async def test_a_deleted_deployment_supersedes_and_devices_keep_what_they_run(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    session = await stage.join("cam-1")
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    stage.store.delete("Deployment", "vision")
    await stage.passes()
    assert (stage.rollout().state, stage.rollout().message) == ("Superseded", "deployment vision was deleted")
    back = await stage.join("cam-1", boot="b2")
    assert sent(back) is None
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    await stage.passes()
    assert stage.rollout().state == "Progressing"
    assert sent(back) is not None
    assert sent(session) is not None


async def test_the_newest_deployment_has_a_device(stage: Stage) -> None:
    apply(stage.store, deployment("a-old", selector={"profiles": ["cam"]}))
    apply(stage.store, model("audio"))
    apply(stage.store, deployment("z-new", model="audio", selector={"profiles": ["cam"]}))
    session = await stage.join("cam-1")
    await stage.passes()
    audio, vision = stage.jobs()
    finish(stage.store, vision, FIRST)
    await stage.passes()
    assert sent(session).deployment == "a-old"
    finish(stage.store, audio, artifact("audio", "audio"))
    await stage.passes()
    assert sent(session).deployment == "z-new"
    before = stage.store.revision()
    await stage.passes()
    assert stage.store.revision() == before


@pytest.fixture
async def running(stage: Stage) -> AsyncIterator[Stage]:
    stage.reconciler = Reconciler(
        stage.store, stage.fleet, stage.registry, stage._key, ReconcileSettings(tick_seconds=0.05), clock=lambda: stage.now
    )
    task = asyncio.create_task(stage.reconciler.run())
    yield stage
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, sys._getframe(1).f_lineno
        await asyncio.sleep(0.01)


async def test_changes_wake_it_and_deadlines_pass_without_any(running: Stage) -> None:
    apply(running.store, deployment(selector={"profiles": ["cam"]}))
    await until(lambda: len(running.jobs()) == 1)
    session = await running.join("cam-1")
    finish(running.store, running.jobs()[0], FIRST)
    await until(lambda: sent(session) is not None)
    running.now += 601
    await until(lambda: running.rollout().state == "Aborted")


async def _second_version(stage: Stage, count: int = 4) -> list[Session]:
    """Everybody runs FIRST by a completed rollout; then SECOND is offered in two steps, the first just begun."""
    rollout = {"steps": ["25%", "100%"], "min_executed": 1, "soak": "60s"}
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    sessions = [await stage.join(f"cam-{index}") for index in range(count)]
    await stage.passes(1)
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    for session in sessions:
        await stage.fleet.moved(session, committed(sent(session).id, FIRST))
    await stage.passes()
    assert stage.rollout().state == "Completed"
    apply(stage.store, model(quality={"max_drop": 0.02}), deployment(selector={"profiles": ["cam"]}, rollout=rollout))
    await stage.passes(1)
    finish(
        stage.store,
        next(job for job in stage.jobs() if stage.store.get("Job", job).status.get("state", "Queued") == "Queued"),
        SECOND,
    )
    await stage.passes()
    return sessions


def offered_second(sessions: list[Session]) -> list[Session]:
    return [session for session in sessions if sent(session) and sent(session).artifact == SECOND]


async def test_canaries_go_back_when_a_rollout_is_aborted(stage: Stage) -> None:
    sessions = await _second_version(stage)
    (canary,) = offered_second(sessions)
    await stage.fleet.moved(canary, committed(sent(canary).id, SECOND))
    await stage.passes()
    assert stage.rollout("vision-2").state == "Progressing", "it soaks"
    control = RolloutControl(stage.store, Mover(stage.store, stage.registry), clock=lambda: stage.now)
    control.command("vision", Command.ABORT, "it runs hot")
    await stage.passes()
    assert stage.rollout("vision-2").state == "Aborted"
    assert offered_second(sessions) == []
    assert (sent(canary).artifact, sent(canary).rollout) == (FIRST, "vision-1")
    await stage.fleet.moved(canary, committed(sent(canary).id, FIRST))
    newcomer = await stage.join("cam-9")
    await stage.passes()
    assert sent(newcomer).artifact == FIRST, "who joins later gets the last good version"
    assert ("vision-2", "Progressing", "Aborted") in stage.moved


async def test_devices_go_back_by_themselves_when_too_many_fail_and_a_failed_one_waits(stage: Stage) -> None:
    sessions = await _second_version(stage)
    (canary,) = offered_second(sessions)
    await stage.fleet.moved(canary, Move(sent(canary).id, "RolledBack", "too slow", current_sha256=FIRST.sha256))
    await stage.passes()
    assert stage.rollout("vision-2").state == "Aborted"
    assert sent(canary).artifact == FIRST
    await stage.fleet.moved(canary, committed(sent(canary).id, FIRST))
    status = stage.fleet._book.get(canary.device).status
    assert (status.failures, status.failed_at) == (1, stage.now), "running again what it ran before is no success"
    apply(stage.store, deployment(selector={"profiles": ["cam"]}, rollout={"steps": ["25%", "100%"], "min_executed": 2}))
    await stage.passes()
    assert stage.rollout("vision-3").devices["Penalised"] == 1
    assert [session.device for session in offered_second(sessions)] != [canary.device]


async def test_an_undone_rollout_takes_everybody_back(stage: Stage) -> None:
    sessions = await _second_version(stage)
    control = RolloutControl(stage.store, Mover(stage.store, stage.registry), clock=lambda: stage.now)
    control.command("vision-2", Command.PROMOTE)
    await stage.passes()
    assert len(offered_second(sessions)) == 4
    for session in sessions:
        await stage.fleet.moved(session, committed(sent(session).id, SECOND))
    stage.now += 61
    await stage.passes()
    stage.now += 61
    await stage.passes()
    assert stage.rollout("vision-2").state == "Completed"
    control.command("vision", Command.UNDO)
    await stage.passes()
    assert offered_second(sessions) == []
    assert stage.rollout("vision-2").message == "undone: by hand; devices go back to vision-1"
    with pytest.raises(Conflict, match="vision-2: it is Aborted already"):
        control.command("vision", Command.PAUSE)


async def test_what_is_paused_stays_paused_over_a_restart(stage: Stage) -> None:
    await _second_version(stage)
    RolloutControl(stage.store, Mover(stage.store, stage.registry)).command("vision", Command.PAUSE, "weekend")
    stage.restart()
    sessions = [await stage.join(f"cam-{index}") for index in range(4)]
    stage.now += 300
    await stage.passes()
    assert (stage.rollout("vision-2").state, stage.rollout("vision-2").held) == ("Paused", "weekend")
    assert len(offered_second(sessions)) == 1


async def test_a_model_that_changes_under_a_deployment_goes_back_to_what_it_was(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    session = await stage.join("cam-1")
    await stage.passes(1)
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    await stage.fleet.moved(session, committed(sent(session).id, FIRST))
    await stage.passes()
    apply(stage.store, model(quality={"max_drop": 0.02}))
    await stage.passes(1)
    finish(
        stage.store,
        next(job for job in stage.jobs() if stage.store.get("Job", job).status.get("state", "Queued") == "Queued"),
        SECOND,
    )
    await stage.passes()
    assert sent(session).artifact == SECOND
    await stage.fleet.moved(session, Move(sent(session).id, "RolledBack", "too slow", current_sha256=FIRST.sha256))
    await stage.passes()
    assert (stage.rollout().state, sent(session).artifact) == ("Aborted", FIRST)


async def test_a_job_is_told_what_its_devices_run_and_keeps_that_when_its_own_result_is_delivered(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    session = await stage.join("cam-1")
    previous = []
    for number, made in enumerate([FIRST, SECOND, OTHER]):
        apply(stage.store, model(quality={"max_drop": 0.02 + number / 100}))
        await stage.passes(1)
        (job,) = [name for name in stage.jobs() if stage.store.get("Job", name).status.get("state", "Queued") == "Queued"]
        previous.append((job, stage.store.get("Job", job).spec.get("previous", "")))
        finish(stage.store, job, made)
        await stage.passes()
        await stage.fleet.moved(session, committed(sent(session).id, made))
        await stage.passes()
    assert [sha256 for _, sha256 in previous] == ["", FIRST.sha256, SECOND.sha256]
    stage.restart()
    await stage.passes()
    assert len(stage.jobs()) == 3
    assert [(job, stage.store.get("Job", job).spec.get("previous", "")) for job, _ in previous] == previous


async def test_a_version_that_was_given_up_is_nothing_to_stay_near_to(stage: Stage) -> None:
    sessions = await _second_version(stage)
    (canary,) = offered_second(sessions)
    await stage.fleet.moved(canary, committed(sent(canary).id, SECOND))
    RolloutControl(stage.store, Mover(stage.store, stage.registry), clock=lambda: stage.now).command(
        "vision", Command.ABORT, "hot"
    )
    apply(stage.store, model(quality={"max_drop": 0.09}))
    await stage.passes()
    (job,) = [name for name in stage.jobs() if stage.store.get("Job", name).status.get("state", "Queued") == "Queued"]
    assert stage.store.get("Job", job).spec["previous"] == FIRST.sha256


GATES = [{"metric": "latency_p95", "max_increase": 0.1}]


async def _gated(stage: Stage) -> tuple[Session, list[Session]]:
    """(canary, the others): everybody runs FIRST, the canary has SECOND behind a gate."""
    apply(stage.store, deployment(selector={"profiles": ["cam"]}, rollout={"steps": ["25%", "100%"], "gates": GATES}))
    sessions = [await stage.join(f"cam-{index}") for index in range(4)]
    await stage.passes(1)
    finish(stage.store, stage.jobs()[0], FIRST)
    await stage.passes()
    for _ in range(2):
        for session in sessions:
            if (wanted := sent(session)) is not None:
                await stage.fleet.moved(session, committed(wanted.id, FIRST))
        await stage.passes()
    assert stage.rollout().state == "Completed", "there is nothing to compare a first version with"
    apply(stage.store, model(quality={"max_drop": 0.02}), deployment(**_second_gated()))
    await stage.passes(1)
    queued = next(job for job in stage.jobs() if stage.store.get("Job", job).status.get("state", "Queued") == "Queued")
    finish(stage.store, queued, SECOND)
    await stage.passes()
    (canary,) = offered_second(sessions)
    await stage.fleet.moved(canary, committed(sent(canary).id, SECOND))
    await stage.passes()
    return canary, [session for session in sessions if session is not canary]


def _second_gated() -> dict[str, Any]:
    return {"selector": {"profiles": ["cam"]}, "rollout": {"steps": ["25%", "100%"], "min_executed": 1, "gates": GATES}}


async def _traffic(
    stage: Stage, canary: Session, others: list[Session], seconds: float, since: int = 0, reports: int = 30
) -> None:
    """Reports of all of them, one after the other, as the ledger gets them; the canary takes ``seconds`` for an inference."""
    for number in range(since + 1, since + reports + 1):
        for session, took, version in [(canary, seconds, SECOND.version), *((one, 0.010, FIRST.version) for one in others)]:
            counts = [0] * (len(LATENCY_BOUNDS) + 1)
            counts[bisect.bisect_left(LATENCY_BOUNDS, took)] = 50 * number
            report = UsageReport(
                boot_id="b1",
                model="vision",
                version=version,
                inferences={"ok": 50 * number},
                bucket_bounds=LATENCY_BOUNDS,
                bucket_counts=tuple(counts),
                duration_sum=50 * number * took,
            )
            await stage.fleet.reported(session, number, [report])
        await stage.passes(1)


async def test_a_gate_without_data_pauses_and_goes_on_by_itself_once_it_holds(stage: Stage) -> None:
    canary, others = await _gated(stage)
    paused = stage.rollout("vision-2")
    assert (paused.state, paused.waits_for_gates) == ("Paused", True)
    assert paused.held.startswith("gate latency_p95 is inconclusive: ")
    await _traffic(stage, canary, others, 0.010)
    await stage.passes()
    passed = stage.rollout("vision-2")
    assert (passed.step, passed.gates[0].verdict) == (1, "Pass")
    assert len(offered_second([canary, *others])) == 4


async def test_a_gate_that_fails_takes_the_canary_back(stage: Stage) -> None:
    canary, others = await _gated(stage)
    await _traffic(stage, canary, others, 0.020)
    failed = stage.rollout("vision-2")
    assert (failed.state, failed.gates[0].verdict) == ("Aborted", "Fail")
    assert failed.message.startswith("gate latency_p95 failed: cam: p95 ")
    assert sent(canary).artifact == FIRST
    assert offered_second([canary, *others]) == []


async def _again(stage: Stage, device: str, runs: Artifact) -> Session:
    """A device comes back that runs something."""
    known = stage.fleet._book.get(device)
    assert known is not None
    fields = {"assignment": known.status.assignment, "current_sha256": runs.sha256}
    return await stage.join(device, state="Committed", **fields)


async def test_after_a_restart_a_comparison_begins_anew(stage: Stage) -> None:
    canary, others = await _gated(stage)
    await _traffic(stage, canary, others, 0.010, reports=8)
    stage.restart()
    await asyncio.to_thread(stage.fleet._ledger.load)
    sessions = [await _again(stage, session.device, SECOND if session is canary else FIRST) for session in [canary, *others]]
    await stage.passes()
    assert stage.rollout("vision-2").state == "Paused"
    await _traffic(stage, sessions[0], sessions[1:], 0.010, since=8)
    await stage.passes()
    assert stage.rollout("vision-2").step == 1


async def test_a_device_that_was_wiped_begins_again_and_takes_nobody_elses_version_away(stage: Stage) -> None:
    sessions = await _second_version(stage, 4)
    RolloutControl(stage.store, Mover(stage.store, stage.registry), clock=lambda: stage.now).command("vision", Command.PROMOTE)
    await stage.passes()
    for session in sessions:
        await stage.fleet.moved(session, committed(sent(session).id, SECOND))
    for _ in range(3):
        stage.now += 61
        await stage.passes()
    assert stage.rollout("vision-2").state == "Completed"
    stage.now += 3600
    wiped = await stage.join(sessions[0].device, boot="b2")
    await stage.passes()
    assert stage.rollout("vision-2").state == "Progressing"
    assert sent(wiped).artifact == SECOND
    await stage.fleet.moved(wiped, Move(sent(wiped).id, "RolledBack", "no room on the disk"))
    await stage.passes()
    assert (stage.rollout("vision-2").state, stage.rollout("vision-2").completed) == ("Completed", True)
    assert offered_second(sessions[1:]) == sessions[1:]


async def test_a_fix_on_its_way_does_not_stop_a_canary_from_going_back(stage: Stage) -> None:
    sessions = await _second_version(stage)
    (canary,) = offered_second(sessions)
    await stage.fleet.moved(canary, committed(sent(canary).id, SECOND))
    await stage.fleet.leave(canary)
    RolloutControl(stage.store, Mover(stage.store, stage.registry), clock=lambda: stage.now).command("vision", Command.ABORT)
    apply(stage.store, model(quality={"max_drop": 0.03}), deployment(selector={"profiles": ["cam"]}, objective="size"))
    await stage.passes()
    back = await _again(stage, canary.device, SECOND)
    await stage.passes()
    assert sent(back).artifact == FIRST
    assert stage.rollout("vision-2").state == "Aborted"


async def test_a_profile_that_comes_later_has_a_canary_and_takes_nothing_from_the_first(stage: Stage) -> None:
    rollout = {"steps": ["10%", "100%"], "min_executed": 1}
    apply(stage.store, deployment(rollout=rollout))
    cams = [await stage.join(f"cam-{number}") for number in range(4)]
    mcus = [await stage.join(f"mcu-{number}", profile="mcu") for number in range(4)]
    await stage.passes(1)
    cam, mcu = stage.jobs()
    finish(stage.store, cam, FIRST)
    await stage.passes()
    for _ in range(2):
        for session in cams:
            if sent(session) is not None:
                await stage.fleet.moved(session, committed(sent(session).id, FIRST))
        stage.now += 1
        await stage.passes()
    assert stage.rollout().state == "Completed"
    other = artifact("other", profile="mcu")
    finish(stage.store, mcu, other)
    await stage.passes()
    tried = [session for session in mcus if sent(session) is not None]
    assert len(tried) == 1, "one of four, though all cams are good"
    await stage.fleet.moved(tried[0], Move(sent(tried[0]).id, "RolledBack", "too slow"))
    await stage.passes()
    assert stage.rollout().state == "Aborted"
    assert all(sent(session).artifact == FIRST for session in cams)
    assert len([session for session in mcus if sent(session) is not None]) == 1


async def test_a_job_stays_what_it_is_whatever_reports_teach_later(stage: Stage) -> None:
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    await stage.passes()
    (job,) = stage.jobs()
    learned(stage.store, 2.0)
    await stage.passes()
    assert stage.jobs() == [job]
    assert stage.store.list("Adoption").records == ()


async def test_a_new_job_is_made_with_what_was_learned_until_then(stage: Stage) -> None:
    known = learned(stage.store, 2.0)
    apply(stage.store, deployment(selector={"profiles": ["cam"]}))
    await stage.passes()
    (job,) = stage.jobs()
    assert decode(JobSpec, stage.store.get("Job", job).spec).corrections == known
    learned(stage.store, 3.0)
    stage.restart()
    await stage.passes()
    assert stage.jobs() == [job], "and stays as it was made"
    apply(stage.store, model(quality={"max_drop": 0.5}))
    await stage.passes()
    specs = [decode(JobSpec, stage.store.get("Job", name).spec) for name in stage.jobs()]
    assert sorted(spec.corrections.factors[0].ratio for spec in specs) == [2.0, 3.0]
    stage.store.delete("Deployment", "vision")
    await stage.passes()
    assert stage.store.list("Adoption").records == ()
