"""Devices that are not what their profile says, artifacts that do not fit, and links that cost money."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edge_compress.delivery.control import RolloutControl
from edge_compress.delivery.drifting import MOST_FOR_ONE
from edge_compress.delivery.links import Passage, over_link
from edge_compress.delivery.moving import Mover
from edge_compress.delivery.sessions import Session
from edge_compress.domain.command import Command
from edge_compress.domain.drift import as_it_is, coarse, contradictions
from edge_compress.domain.fleet import DeviceFacts, DeviceStatus
from edge_compress.domain.session import Assignment, Move
from edge_compress.domain.spec import STANDS_IN_FOR, DeviceProfileSpec, Link, RolloutPolicy
from edge_compress.store.sqlite import SqliteStore
from tests.unit.delivery.makers import apply, artifact, committed, deployment, finish, model, profile
from tests.unit.delivery.test_reconcile import Stage

FIRST, SECOND, OTHER = artifact("first"), artifact("second"), artifact("other")
CAM = {"selector": {"profiles": ["cam"]}}


@pytest.fixture
def stage(store: SqliteStore) -> Stage:
    apply(store, profile("cam", threads=4), model())
    return Stage(store)


def sent(session: Session) -> Assignment:
    assert session._assignment is not None
    return session._assignment


def test_every_contradiction_is_told_and_what_is_not_said_contradicts_nothing() -> None:
    declared = DeviceProfileSpec(memory=2**30, storage=2**20, int8_dot_product=True, threads=4)
    small = DeviceFacts(2, 2**29, 2**20, False, ("tflite",))
    found = contradictions(declared, small)
    assert [item.words for item in found] == [
        "the profile's runtime is onnxruntime, the device has tflite",
        "the profile lets models add 1Gi of memory, the device has 512Mi",
        "the profile lets a version take 1Mi, the device has 1Mi for 2 of them",
        "the profile says int8_dot_product, the device's processor has none",
        "the profile allows 4 threads, the device has 2 cores",
    ]
    true = as_it_is(declared, found)
    assert (true.runtime, true.memory, true.storage, true.int8_dot_product, true.threads) == ("tflite", 2**28, 2**19, False, 2)
    assert contradictions(true, small) == ()
    assert contradictions(declared, DeviceFacts()) == ()
    assert contradictions(DeviceProfileSpec(), DeviceFacts(1, 1, 1, False)) == ()


async def test_a_device_that_contradicts_its_profile_gets_what_is_made_for_what_it_is(stage: Stage) -> None:
    apply(stage.store, deployment(**CAM))
    like, unlike = await stage.join("cam-1", facts=DeviceFacts(cores=4)), await stage.join("cam-2", facts=DeviceFacts(cores=2))
    await stage.passes()
    (made,) = [record for record in stage.store.list("DeviceProfile").records if STANDS_IN_FOR in record.labels]
    assert (made.labels[STANDS_IN_FOR], made.spec["threads"]) == ("cam", 2)
    assert made.name.startswith("cam-as-")
    status = next(device.status for device in stage.fleet.devices() if device.name == "cam-2")
    assert status.drift == ("the profile allows 4 threads, the device has 2 cores",)
    assert status.made_for == made.name
    told = stage.condition("ProfileDrift")
    assert (told.status, told.reason) == ("True", "DevicesDiffer")
    assert told.message == (
        f"1 of cam: the profile allows 4 threads, the device has 2 cores; they get what is made for {made.name}"
    )

    own, theirs = sorted(stage.jobs(), key=lambda name: "-as-" in name)
    finish(stage.store, own, FIRST)
    finish(stage.store, theirs, SECOND)
    await stage.passes()
    assert (sent(like).artifact, sent(unlike).artifact, sent(unlike).threads) == (FIRST, SECOND, 2)
    await stage.fleet.leave(unlike)
    await stage.join("cam-2", boot="b2", facts=DeviceFacts(cores=8))
    await stage.passes()
    assert all(STANDS_IN_FOR not in record.labels for record in stage.store.list("DeviceProfile").records)
    assert stage.condition("ProfileDrift").reason == "AsDeclared"


async def test_next_best_artifacts_come_along_and_one_that_is_taken_is_good(stage: Stage) -> None:
    apply(stage.store, deployment(**CAM))
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST, fallbacks=(SECOND, OTHER))
    session = await stage.join("cam-1")
    await stage.passes()
    offer = sent(session)
    assert (offer.artifact, offer.fallbacks) == (FIRST, (SECOND, OTHER))
    session._assignment = None
    await stage.fleet.moved(session, committed(offer.id, SECOND))
    await stage.passes()
    assert stage.rollout().state == "Completed"
    assert session._assignment is None, "it is not told again"
    (device,) = stage.fleet.devices()
    assert device.status.artifact == SECOND.name
    again = await stage.join("cam-1", boot="b2", current_sha256=SECOND.sha256, assignment=offer.id, state="Committed")
    await stage.passes()
    assert again._assignment is None, "nor after it came back"


def offer(**changes: Any) -> Assignment:
    return dataclasses.replace(Assignment("a.1", "vision", "vision-1", SECOND, fallbacks=(OTHER,)), **changes)


RUNS = DeviceStatus(version=FIRST.version, artifact=FIRST.name)
METERED = Link(metered=True)


def test_a_metered_link_carries_first_versions_differences_or_nothing() -> None:
    policy = RolloutPolicy()
    first = over_link(offer(), DeviceStatus(), None, METERED, policy)
    assert first == Passage(offer()), "there is nothing that differences could go to"
    asked: list[str] = []

    def sizes(base: str, new: str) -> int | None:
        asked.append(new)
        return {SECOND.sha256: 100, OTHER.sha256: 890}.get(new)

    small = over_link(offer(), RUNS, FIRST, METERED, policy, sizes)
    assert small == Passage(offer(differences_only=True, fallbacks=()))
    assert asked == [SECOND.sha256, OTHER.sha256]
    ladder = over_link(offer(), RUNS, FIRST, METERED, policy, lambda base, new: 100)
    assert ladder == Passage(offer(differences_only=True)), "fallbacks come along as differences, too"
    half = over_link(offer(), RUNS, FIRST, METERED, policy, lambda base, new: 100 if new == SECOND.sha256 else None)
    assert not half.open, "as long as nobody knows how large all of them are"
    for runs, size in ((FIRST, 890), (None, 1)):  # none in all but name; the server lacks what it runs
        closed = over_link(offer(), RUNS, runs, METERED, policy, lambda base, new, size=size: size)
        assert (closed.open, closed.offer.differences_only) == (False, True), "a device that is at it goes on on these terms"
    assert over_link(offer(), RUNS, FIRST, METERED, RolloutPolicy(metered="whole")) == Passage(offer())
    assert not over_link(offer(), DeviceStatus(), None, METERED, RolloutPolicy(metered="wait")).open
    assert over_link(offer(), RUNS, FIRST, Link(update_rate=8000), policy) == Passage(offer(bytes_per_second=1000.0))


async def test_devices_on_metered_links_wait_for_differences_and_hold_nobody_up(stage: Stage) -> None:
    apply(stage.store, profile("cam", link={"metered": True}), deployment(**CAM))
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    session = await stage.join("cam-1")
    await stage.passes()
    await stage.fleet.moved(session, committed(sent(session).id, FIRST))
    await stage.passes()
    session._assignment = None
    apply(stage.store, model(quality={"max_drop": 0.02}), deployment(**CAM, rollout={"soak": "1s"}))
    await stage.passes()
    (job,) = [name for name in stage.jobs() if stage.store.get("Job", name).status.get("state", "Queued") == "Queued"]
    finish(stage.store, job, SECOND)
    await stage.passes()
    assert session._assignment is None
    assert stage.rollout("vision-2").devices == {"Metered": 1}
    stage.reconciler._sizes = lambda base, new: 100
    await stage.passes()
    assert sent(session).differences_only
    assert stage.rollout("vision-2").devices == {"Idle": 1}
    stage.restart()
    again = await stage.join("cam-1", current_sha256=FIRST.sha256, assignment="vision-1.x", state="Committed")
    await stage.passes()
    assert sent(again).differences_only, "what it was offered before a restart it is offered on the same terms"


async def test_going_back_keeps_off_links_too_but_for_those_that_have_the_good_version(stage: Stage) -> None:
    apply(stage.store, profile("cam", link={"metered": True}), deployment(**CAM))
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    canary = await stage.join("cam-1")
    await stage.passes()
    await stage.fleet.moved(canary, committed(sent(canary).id, FIRST))
    await stage.passes()
    stage.reconciler._sizes = lambda base, new: 100
    apply(stage.store, model(quality={"max_drop": 0.02}), deployment(**CAM, rollout={"steps": [0.5, 1], "metered": "wait"}))
    await stage.passes()
    (job,) = [name for name in stage.jobs() if stage.store.get("Job", name).status.get("state", "Queued") == "Queued"]
    finish(stage.store, job, SECOND)
    newcomer = await stage.join("cam-2")
    await stage.passes()
    assert stage.rollout("vision-2").devices == {"Metered": 2}
    RolloutControl(stage.store, Mover(stage.store, stage.registry)).command("vision-2", Command.ABORT)
    await stage.passes()
    assert newcomer._assignment is None, "it has nothing to go back to, and its link is closed"


async def test_a_slow_link_has_the_time_that_it_takes(stage: Stage) -> None:
    apply(stage.store, profile("cam", link={"update_rate": "10bit"}), deployment(**CAM, rollout={"device_deadline": "60s"}))
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    session = await stage.join("cam-1")
    await stage.passes()
    await stage.fleet.moved(session, Move(sent(session).id, "Fetching"))
    stage.now += 8 * FIRST.download_bytes / 10 + 59
    await stage.passes()
    assert stage.rollout().devices == {"Fetching": 1}
    stage.now += 2
    await stage.passes()
    assert stage.rollout().devices == {"TimedOut": 1}


async def test_a_device_that_says_why_it_waits_is_not_silent_as_long_as_it_is_there(stage: Stage) -> None:
    apply(stage.store, deployment(**CAM, rollout={"device_deadline": "60s"}))
    await stage.passes()
    finish(stage.store, stage.jobs()[0], FIRST)
    session = await stage.join("cam-1")
    await stage.passes()
    why = "waits for the maintenance window 02:00-04:00"
    await stage.fleet.moved(session, Move(sent(session).id, "Preflight", why, waits=True))
    stage.now += 3600
    await stage.passes()
    assert stage.rollout().devices == {"Preflight": 1}
    await stage.fleet.heard(session)
    await stage.fleet.leave(session)
    stage.now += 30
    await stage.passes()
    assert stage.rollout().devices == {"Preflight": 1}, "its deadline begins when it is gone"
    stage.now += 3600
    await stage.passes()
    assert (stage.rollout().state, stage.rollout().devices) == ("Aborted", {"TimedOut": 1})


async def test_differences_that_came_out_wrong_are_counted_once(stage: Stage) -> None:
    wrong: list[int] = []
    stage.fleet._wrong = wrong.append
    session = await stage.join("cam-1")
    for count, state in ((0, "Fetching"), (1, "Verifying"), (1, "Verifying"), (1, "Staged")):
        await stage.fleet.moved(session, Move("a.1", state, bad_differences=count))
    await stage.fleet.moved(session, Move("b.1", "Verifying", bad_differences=1))
    (device,) = stage.fleet.devices()
    assert (wrong, device.status.bad_differences) == ([1, 1], 2)


def test_amounts_are_coarse_so_that_devices_of_one_make_share_a_profile() -> None:
    assert [coarse(amount) for amount in (0, 1, 1.9, 2, 3.9, 5, 6, 7.9, 1000)] == [1, 1, 1, 2, 3, 4, 6, 6, 768]
    declared = DeviceProfileSpec(memory=2**40)
    made = {
        as_it_is(declared, contradictions(declared, DeviceFacts(memory_bytes=2**30 - pages * 4096))) for pages in range(1, 50)
    }
    assert len(made) == 1


async def test_what_devices_say_makes_no_more_profiles_than_a_few(stage: Stage) -> None:
    apply(stage.store, profile("cam", memory="1Ti", threads=64), deployment(**CAM))
    for number in range(40):
        await stage.join(f"cam-{number}", facts=DeviceFacts(cores=number + 1))
    await stage.join("cam-odd", facts=DeviceFacts(runtimes=("nobody-knows-it",)))
    await stage.passes()
    made = [record for record in stage.store.list("DeviceProfile").records if STANDS_IN_FOR in record.labels]
    assert len(made) == MOST_FOR_ONE
    odd = next(device.status for device in stage.fleet.devices() if device.name == "cam-odd")
    assert (odd.drift, odd.made_for) == (("the profile's runtime is onnxruntime, the device has nobody-knows-it",), "")
