"""The devices and their live sessions: who is there, what each runs, and getting the newest assignment to it.

A change of a device is durable before anything follows from it. Heartbeats stay in memory: ``last_seen`` is written at most
once a minute per device. Which device should run what is decided in ``reconcile``; counting inferences is left to ``usage``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from edge_compress.delivery.assignments import must_be_sent, standing
from edge_compress.delivery.census import Census, Place
from edge_compress.delivery.devices import Device, DeviceBook
from edge_compress.delivery.running import SETTLED, ArtifactBook, joined, moved, runs
from edge_compress.delivery.sessions import Session, Welcome
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.fleet import DISCONNECTED, DeviceSpec, DeviceStatus
from edge_compress.domain.overview import HistoryPoint
from edge_compress.domain.schema import decode
from edge_compress.domain.session import Assignment, Hello, Move, UsageReport
from edge_compress.domain.spec import DeviceProfileSpec
from edge_compress.errors import Conflict, EdgeCompressError, InUse, NotFound, Unavailable
from edge_compress.store.interface import ResourceStore, UsageKey, UsageTotals

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetSettings:
    """How often agents speak and how often that is written down. Seconds."""

    heartbeat_seconds: float = 10.0
    report_seconds: float = 5.0
    lost_after_heartbeats: int = 3
    """a session silent for so many heartbeats is over"""
    last_seen_seconds: float = 60.0
    usage_seconds: float = 15.0
    """a device's status shows its usage as of at most so long ago"""

    @property
    def patience_seconds(self) -> float:
        """How long a session may be silent."""
        return self.heartbeat_seconds * self.lost_after_heartbeats


class Fleet:
    """Every device that joined. Call it on one event loop; ``devices`` and ``states`` from any thread.

    ``changed`` is called after a device joined, left, moved or was forgotten, ``wrong`` with how many updates as differences came
    out wrong.
    """

    def __init__(
        self,
        store: ResourceStore,
        ledger: UsageLedger,
        settings: FleetSettings = FleetSettings(),
        *,
        changed: Callable[[], None] = lambda: None,
        wrong: Callable[[int], None] = lambda count: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.changed = changed
        self.noted: Callable[[str], None] = lambda name: None
        """called with each device that came, changed, went or was forgotten"""
        self.census = Census()
        """devices by profile and state, those without a session as Disconnected"""
        self._wrong = wrong
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._book = DeviceBook(store, noted=self._note)
        self._artifacts = ArtifactBook(store)
        self._sessions: dict[str, Session] = {}
        self._desired: dict[str, Assignment] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the devices and begin to look for silent ones. Call after the ledger was loaded."""
        await asyncio.to_thread(self._book.load)
        self._watch = asyncio.create_task(self._look_for_silent_ones())

    async def close(self) -> None:
        """End every session; the agents come back to the next server."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        for session in list(self._sessions.values()):
            session.end(Unavailable("the server is stopping; try again soon"))

    def devices(self) -> list[Device]:
        """Every device with its durable status."""
        return self._book.all()

    def made_for(self) -> Mapping[str, str]:
        """Device -> the profile that its artifacts are made for."""
        return {device.name: device.made_for for device in self._book.all()}

    def usage_rows(self, name: str) -> Mapping[UsageKey, UsageTotals]:
        """A device's running totals by boot and version; from any thread."""
        return self._ledger.rows(name)

    def states(self) -> Mapping[str, int]:
        """State -> devices, those without a session as Disconnected."""
        return self.census.states()

    def device(self, name: str) -> Device | None:
        """A device with its durable status; None where there is none."""
        return self._book.get(name)

    def history(self, name: str) -> tuple[HistoryPoint, ...]:
        """The last hour of a device. Raises NotFound."""
        if self._book.get(name) is None:
            raise NotFound("Device", name)
        return self._ledger.histories.points(name)

    def heard_at(self, name: str) -> float | None:
        """When a device last said something, in seconds since the epoch; None: it has no session."""
        session = self._sessions.get(name)
        return self._clock() - (time.monotonic() - session.heard) if session is not None else None

    def live(self, name: str) -> bool:
        """Whether the device has a session now."""
        return name in self._sessions

    async def join(self, hello: Hello) -> Session:
        """Begin a session; the device's older one, if any, ends. Raises NotFound when there is no such profile."""
        profile = await self._profile(hello.profile)
        running = await self._artifacts.running(hello.current_sha256)
        spec = DeviceSpec(hello.profile, hello.labels, hello.agent_version, hello.runtime_version, hello.machine, hello.facts)
        now = self._clock()
        await self._book.join(hello.device, spec, lambda status: joined(status, hello, running, now))
        session = Session(hello, self._welcome(profile, now), time.monotonic())
        older = self._sessions.get(hello.device)
        self._sessions[hello.device] = session
        self._note(hello.device)
        if older is not None:
            older.end(Conflict(f"a newer session of device {hello.device} began"))
        self._send(session)
        self.changed()
        return session

    async def leave(self, session: Session) -> None:
        """A session is over. Its device is disconnected unless a newer session took its place."""
        session.end()
        if self._sessions.get(session.device) is session:
            del self._sessions[session.device]
            self._note(session.device)
            await self._disconnected(session.device)

    async def heard(self, session: Session) -> None:
        """The agent said something: it is alive."""
        session.heard = time.monotonic()
        device, now = self._book.get(session.device), self._clock()
        if device is not None and now - device.status.last_seen >= self.settings.last_seen_seconds:
            await self._book.change(session.device, lambda status: replace(status, last_seen=now))

    async def moved(self, session: Session, move: Move) -> None:
        """The device made a move. A repeat changes nothing."""
        session.heard = time.monotonic()
        running = None
        if move.state in SETTLED:
            session.current_sha256 = move.current_sha256
            running = await self._artifacts.running(move.current_sha256)
        now, before = self._clock(), self._book.get(session.device)
        device = await self._book.change(session.device, lambda status: moved(status, move, running, now))
        if before is not None and (wrong := device.status.bad_differences - before.status.bad_differences) > 0:
            self._wrong(wrong)
        self.changed()

    async def reported(self, session: Session, sequence: int, reports: Sequence[UsageReport]) -> None:
        """Count reports and acknowledge them once they are durable."""
        session.heard = time.monotonic()
        await self._ledger.accept(session.device, session.hello.profile, reports)
        session.acknowledge(sequence)
        if session.heard - session.usage_shown >= self.settings.usage_seconds:
            session.usage_shown = session.heard
            await self._book.change(session.device, self._with_usage(session.device))

    async def desire(self, wanted: Mapping[str, Assignment]) -> None:
        """Say what every device should run: device -> assignment. A device not named keeps what it runs and is sent nothing.

        What a device is offered is durable before it is sent. Calling this again with the same changes nothing.
        """
        new = [name for name, assignment in wanted.items() if self._is_new(name, assignment)]
        now = self._clock()
        await self._book.change_many({name: partial(replace, offered=wanted[name].id, news_at=now) for name in new})
        unknown = [name for name, assignment in wanted.items() if self._runs_unknown(name, assignment)]
        await asyncio.gather(*(self._recognise(name) for name in unknown))
        self._desired = dict(wanted)
        for name in wanted:
            if session := self._sessions.get(name):
                self._send(session)

    async def note_drift(self, devices: Iterable[Device]) -> None:
        """Write down in what devices contradict their profiles, where that is news."""
        news = [(device.name, device.status.drift, device.status.made_for) for device in devices if self._has_drifted(device)]
        await self._book.change_many({name: partial(replace, drift=drift, made_for=made_for) for name, drift, made_for in news})

    async def forget(self, name: str) -> None:
        """Remove a device that is not connected. Raises NotFound, InUse. What it counted stays in the metrics' sums."""
        if name in self._sessions:
            raise InUse("Device", name, ("its agent, which is connected",))
        await self._book.remove(name)
        await self._ledger.forget(name)
        self.changed()

    def _note(self, name: str) -> None:
        """Count a device where it is now."""
        device = self._book.get(name)
        self.census.note(name, self._place(device) if device is not None else None)
        self.noted(name)

    def _place(self, device: Device) -> Place:
        status = device.status
        state = status.state if device.name in self._sessions else DISCONNECTED
        return Place(device.spec.profile, state, status.model, status.version)

    def _is_new(self, name: str, assignment: Assignment) -> bool:
        device = self._book.get(name)
        return device is not None and standing(device.status, assignment) is None

    def _has_drifted(self, device: Device) -> bool:
        known = self._book.get(device.name)
        return known is not None and (known.status.drift, known.status.made_for) != (device.status.drift, device.status.made_for)

    def _runs_unknown(self, name: str, assignment: Assignment) -> bool:
        """Whether the device runs what it should, and did so before this server knew the artifact."""
        session, device = self._sessions.get(name), self._book.get(name)
        here = session is not None and assignment.may_run(session.current_sha256)
        return here and device is not None and not device.status.artifact

    async def _recognise(self, name: str) -> None:
        session = self._sessions.get(name)
        if session is None:
            return
        running = await self._artifacts.running(session.current_sha256)
        with contextlib.suppress(NotFound):  # forgotten meanwhile
            await self._book.change(name, lambda status: runs(status, running))

    def _send(self, session: Session) -> None:
        wanted, device = self._desired.get(session.device), self._book.get(session.device)
        if wanted is None or device is None or session.told == wanted.id:
            return
        if must_be_sent(device.status, session.current_sha256, wanted):
            session.offer(wanted)

    def _welcome(self, profile: DeviceProfileSpec, now: float) -> Welcome:
        settings = self.settings
        return Welcome(settings.heartbeat_seconds, settings.report_seconds, profile.compute.watts_per_core, now)

    def _with_usage(self, name: str) -> Callable[[DeviceStatus], DeviceStatus]:
        def change(status: DeviceStatus) -> DeviceStatus:
            usage = self._ledger.device(name, status.model, status.version)
            return replace(
                status,
                inferences=usage.inferences,
                p95_seconds=usage.p95_seconds if usage.p95_seconds is not None else status.p95_seconds,
                joules_per_inference=usage.joules_per_inference,
                energy_source=usage.energy_source,
            )

        return change

    async def _profile(self, name: str) -> DeviceProfileSpec:
        record = await asyncio.to_thread(self._store.get, "DeviceProfile", name)
        return decode(DeviceProfileSpec, record.spec, "spec")

    async def _disconnected(self, name: str) -> None:
        try:
            await self._book.change(name, lambda status: replace(status, connected=name in self._sessions))
        except EdgeCompressError as error:
            # Forgotten meanwhile, or no room on the disk: then the search for silent ones notes it later.
            _log.debug("could not note that device %s left: %s", name, error)
        self.changed()

    async def _look_for_silent_ones(self) -> None:
        """End sessions that fell silent, and note the devices that did not come back after a restart."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(self.settings.heartbeat_seconds / 2)
            now = time.monotonic()
            try:
                for session in list(self._sessions.values()):
                    if now - session.heard > self.settings.patience_seconds:
                        session.end(Unavailable(f"no heartbeat for {self.settings.patience_seconds:g} s"))
                        await self.leave(session)
                if now - began > self.settings.patience_seconds:
                    await self._note_absent()
            except EdgeCompressError as error:
                _log.warning("could not note silent devices, will try again: %s", error)
            except Exception:  # were this task to end, no silent session would ever be noticed again
                _log.exception("looking for silent devices broke, will try again")

    async def _note_absent(self) -> None:
        for device in self._book.all():
            if device.status.connected and device.name not in self._sessions:
                await self._disconnected(device.name)
