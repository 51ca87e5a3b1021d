"""The fleet over a real store: who is there, what they run, what they are sent, and how little of it is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from edge_compress.delivery.assignments import assignment_for
from edge_compress.delivery.fleet import Fleet, FleetSettings
from edge_compress.delivery.sessions import Acknowledged, Session
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.fleet import DeviceStatus
from edge_compress.domain.rollout import RolloutSpec
from edge_compress.domain.schema import decode
from edge_compress.domain.session import Assignment, Move, UsageReport
from edge_compress.errors import Conflict, InUse, NotFound, Unavailable
from edge_compress.store.sqlite import SqliteStore
from tests.unit.delivery.makers import apply, artifact, committed, hello, profile, publish

QUICK = FleetSettings(heartbeat_seconds=0.1, usage_seconds=0.0)
FIRST, SECOND = artifact("first"), artifact("second")


def wanted(made=FIRST, rollout: str = "vision-1") -> Assignment:
    return assignment_for(rollout, RolloutSpec("vision", "vision"), made, profile().spec)


def status(store: SqliteStore, name: str = "cam-1") -> DeviceStatus:
    return decode(DeviceStatus, store.get("Device", name).status)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def next_of(session: Session) -> Assignment | Acknowledged:
    async with asyncio.timeout(5):
        return await anext(session.outgoing())


def silent(session: Session) -> bool:
    return not session._something


@pytest.fixture
async def fleet(store: SqliteStore) -> AsyncIterator[Fleet]:
    apply(store, profile(compute={"watts_per_core": "1.5W"}))
    publish(store, FIRST)
    publish(store, SECOND)
    made = Fleet(store, UsageLedger(store), QUICK)
    await made.start()
    yield made
    await made.close()


async def test_a_device_is_known_from_its_hello_on(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello(labels={"site": "a"}, machine="x86_64"))
    assert (session.welcome.heartbeat_seconds, session.welcome.watts_per_core) == (0.1, 1.5)
    record = store.get("Device", "cam-1")
    assert (dict(record.labels), record.spec["machine"]) == ({"site": "a"}, "x86_64")
    assert (status(store).connected, status(store).state, status(store).boot_id) == (True, "Idle", "b1")
    assert fleet.states() == {"Idle": 1}


async def test_a_device_of_an_unknown_profile_is_refused(store: SqliteStore, fleet: Fleet) -> None:
    with pytest.raises(NotFound, match="DeviceProfile 'nobody'"):
        await fleet.join(hello(profile="nobody"))
    assert not store.list("Device").records


async def test_leaving_disconnects(store: SqliteStore, fleet: Fleet) -> None:
    await fleet.leave(await fleet.join(hello()))
    assert status(store).connected is False
    assert fleet.states() == {"Disconnected": 1}


async def test_the_newest_session_wins(store: SqliteStore, fleet: Fleet) -> None:
    older = await fleet.join(hello())
    newer = await fleet.join(hello(boot="b2"))
    with pytest.raises(Conflict, match="newer session"):
        await next_of(older)
    await fleet.leave(older)
    assert status(store).connected is True
    assert fleet.live("cam-1")
    assert not newer.ended


async def test_a_silent_session_ends(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello())
    with pytest.raises(Unavailable, match="no heartbeat"):
        await next_of(session)
    await until(lambda: not status(store).connected)


async def test_silent_sessions_are_noticed_after_trouble_that_nobody_foresaw(
    store: SqliteStore, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.join(hello("cam-0"))
    broken: list[str] = []

    def breaks(*said: object, **options: object) -> None:
        broken.append("once")
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(store, "set_statuses", breaks)
        await until(lambda: bool(broken))
    session = await fleet.join(hello())
    await until(lambda: session.ended)


async def test_heartbeats_keep_a_session_and_are_not_written(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello())
    before = store.revision()
    began = time.monotonic()
    while time.monotonic() - began < 0.6:
        await fleet.heard(session)
        await asyncio.sleep(0.01)
    assert not session.ended
    assert store.revision() == before


async def test_last_seen_is_written_once_a_minute(store: SqliteStore) -> None:
    apply(store, profile())
    now = [1000.0]
    fleet = Fleet(store, UsageLedger(store), QUICK, clock=lambda: now[0])
    session = await fleet.join(hello())
    for now[0] in (1030.0, 1059.0):
        await fleet.heard(session)
    assert status(store).last_seen == 1000.0
    now[0] = 1061.0
    await fleet.heard(session)
    assert status(store).last_seen == 1061.0


async def test_an_assignment_is_durable_before_it_is_sent_and_sent_once(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello())
    await fleet.desire({"cam-1": wanted()})
    assert status(store).offered == wanted().id
    assert await next_of(session) == wanted()
    await fleet.desire({"cam-1": wanted()})
    assert silent(session)


async def test_only_the_newest_assignment_waits(fleet: Fleet) -> None:
    session = await fleet.join(hello())
    await fleet.desire({"cam-1": wanted()})
    await fleet.desire({"cam-1": wanted(SECOND, "vision-2")})
    assert await next_of(session) == wanted(SECOND, "vision-2")
    assert silent(session)


async def test_a_device_that_was_away_gets_the_newest_assignment(fleet: Fleet) -> None:
    await fleet.leave(await fleet.join(hello()))
    await fleet.desire({"cam-1": wanted()})
    assert await next_of(await fleet.join(hello(boot="b2"))) == wanted()


async def test_a_device_that_runs_what_is_desired_is_sent_nothing(fleet: Fleet) -> None:
    await fleet.desire({"cam-1": wanted()})
    session = await fleet.join(hello(current_sha256=FIRST.sha256, assignment=wanted().id, state="Committed"))
    assert silent(session)


async def test_the_same_terms_from_an_older_rollout_are_good_too(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello(current_sha256=FIRST.sha256, assignment=wanted().id, state="Committed"))
    await fleet.desire({"cam-1": wanted(rollout="vision-2")})
    assert silent(session)
    assert status(store).offered == ""


async def test_a_device_that_lost_what_it_committed_is_sent_it_again(fleet: Fleet) -> None:
    await fleet.desire({"cam-1": wanted()})
    session = await fleet.join(hello(assignment=wanted().id, state="Committed"))
    assert await next_of(session) == wanted()


async def test_a_device_that_tried_and_failed_is_not_told_again(fleet: Fleet) -> None:
    await fleet.desire({"cam-1": wanted()})
    session = await fleet.join(hello(assignment=wanted().id, state="RolledBack"))
    assert silent(session)


async def test_moves_become_status(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello())
    await fleet.desire({"cam-1": wanted()})
    await fleet.moved(session, Move(wanted().id, "Trial", p95_seconds=0.02))
    assert (status(store).state, status(store).version, status(store).p95_seconds) == ("Trial", "", 0.02)
    await fleet.moved(session, committed(wanted().id, FIRST))
    now = status(store)
    assert (now.state, now.model, now.artifact, now.version) == ("Committed", "vision", FIRST.name, FIRST.version)
    before = store.revision()
    await fleet.moved(session, committed(wanted().id, FIRST))
    assert store.revision() == before


async def test_a_device_that_rolls_back_shows_what_it_runs(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello(current_sha256=FIRST.sha256, assignment=wanted().id, state="Committed"))
    await fleet.moved(session, Move(wanted(SECOND).id, "RolledBack", "golden vectors differ", FIRST.sha256))
    assert (status(store).version, status(store).message) == (FIRST.version, "golden vectors differ")


async def test_an_artifact_nobody_knows_shows_its_digest(store: SqliteStore, fleet: Fleet) -> None:
    await fleet.join(hello(current_sha256="f" * 64, assignment="other-1.abc", state="Committed"))
    assert (status(store).artifact, status(store).version) == ("", "f" * 12)


async def test_an_artifact_that_becomes_known_later_gets_its_name(store: SqliteStore, fleet: Fleet) -> None:
    late = artifact("late")
    offer = wanted(late)
    await fleet.join(hello(current_sha256=late.sha256, assignment=offer.id, state="Committed"))
    assert (status(store).artifact, status(store).version) == ("", late.sha256[:12])
    publish(store, late)
    await fleet.desire({"cam-1": offer})
    assert (status(store).artifact, status(store).model, status(store).state) == (late.name, "vision", "Committed")


async def test_reports_are_acknowledged_and_shown(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello(current_sha256=FIRST.sha256, assignment=wanted().id, state="Committed"))
    report = UsageReport("b1", "vision", FIRST.version, inferences={"ok": 5}, bucket_bounds=(1.0,), bucket_counts=(5, 0))
    await fleet.reported(session, 7, [report])
    assert len(list(store.usage())) == 1
    assert await next_of(session) == Acknowledged(7)
    assert status(store).inferences == 5
    assert status(store).joules_per_inference is None


async def test_usage_is_not_written_with_every_report(store: SqliteStore) -> None:
    apply(store, profile())
    fleet = Fleet(store, UsageLedger(store), replace(QUICK, usage_seconds=1000.0))
    session = await fleet.join(hello())
    await fleet.reported(session, 1, [UsageReport("b1", "vision", "v1", inferences={"ok": 5})])
    before = store.revision()
    await fleet.reported(session, 2, [UsageReport("b1", "vision", "v1", inferences={"ok": 9})])
    assert store.revision() == before


async def test_forgetting(store: SqliteStore, fleet: Fleet) -> None:
    session = await fleet.join(hello())
    with pytest.raises(InUse, match="connected"):
        await fleet.forget("cam-1")
    await fleet.leave(session)
    await fleet.forget("cam-1")
    with pytest.raises(NotFound):
        store.get("Device", "cam-1")
    with pytest.raises(NotFound):
        await fleet.forget("cam-1")


async def test_a_restart_remembers_devices_and_notes_the_absent(store: SqliteStore, fleet: Fleet) -> None:
    await fleet.join(hello())
    again = Fleet(store, UsageLedger(store), QUICK)
    await again.start()
    try:
        assert [device.name for device in again.devices()] == ["cam-1"]
        assert again.states() == {"Disconnected": 1}
        await until(lambda: not status(store).connected)
    finally:
        await again.close()


async def test_stopping_ends_sessions(fleet: Fleet) -> None:
    session = await fleet.join(hello())
    await fleet.close()
    with pytest.raises(Unavailable, match="stopping"):
        await next_of(session)
