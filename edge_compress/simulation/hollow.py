"""One hollow agent: a session as a real agent holds it, with made-up inferences, and moves that cost no model.

It may download what it is assigned, for real; what it is made to do wrong is drawn from a seed, so that a run can be repeated.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import hashlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc

from edge_compress.api.v1 import agents_pb2, agents_pb2_grpc, artifacts_pb2, artifacts_pb2_grpc
from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.encoding import Form, unpacked

_STEPS = ("Preflight", "Fetching", "Verifying", "Staged", "Probing", "Trial")
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0
_REFUSALS = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # each device has a connection of its own
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 8 << 20),
)


@dataclass(frozen=True)
class Conduct:
    """How hollow agents behave. Seconds; shares from 0 to 1."""

    profile: str
    labels: dict[str, str] = field(default_factory=dict)
    latency: float = 0.010
    spread: float = 0.2
    """inferences take the latency times 1 plus or minus up to this"""
    rate: float = 5.0
    """inferences a second"""
    joules: float | None = None
    """of an inference; None: no energy is reported"""
    slower: float = 1.0
    """factor of an update's latency"""
    failing: float = 0.0
    """share of the devices on which every update fails"""
    silent: float = 0.0
    """share of those that fall silent when an update begins"""
    install: float = 0.5
    """what an update takes on the device beside its download, half as much to half as much again; as much in each state"""
    download: bool = True
    heartbeat: float | None = None
    report: float | None = None
    batch: int = 1
    """reports that are sent together, each as another cohort's"""


@dataclass
class Tally:
    """What a process's agents have seen together."""

    connected: int = 0
    sessions: int = 0
    refused: int = 0
    refusal: str = ""
    """the last one's reason"""
    broken: int = 0
    """updates that broke off: the download failed"""
    put_off: int = 0
    """downloads that the server had no place for, tried again later"""
    assigned: int = 0
    states: Counter[str] = field(default_factory=Counter)
    reports: int = 0
    downloaded: int = 0
    corrupt: int = 0
    first_assigned: float = 0.0
    last_assigned: float = 0.0
    """seconds since the epoch; 0: nothing was"""


class Hollow:
    """One device. ``run`` keeps its session up until cancelled."""

    def __init__(self, name: str, server: str, conduct: Conduct, tally: Tally, seed: int) -> None:
        self.name, self._server, self._conduct, self._tally = name, server, conduct, tally
        self._chance = random.Random(f"{seed}/{name}")  # noqa: S311 (no secret)
        self._fails, self._falls_silent = self._chance.random() < conduct.failing, self._chance.random() < conduct.silent
        self._boot = f"{self._chance.getrandbits(64):016x}"
        self._assignment = self._state = self._current = self._model = self._version = ""
        self._old: tuple[str, str, str] = ("", "", "")
        self._updated, self._sequence, self._count = False, 0, 0
        self._buckets, self._seconds = [0] * (len(LATENCY_BOUNDS) + 1), 0.0
        self._work: asyncio.Task[None] | None = None
        self._outbox: asyncio.Queue[agents_pb2.AgentMessage] = asyncio.Queue()

    async def run(self) -> None:
        """Connect, and again with growing pauses whenever the session ends."""
        wait = _FIRST_WAIT
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, TimeoutError):
                wait = _FIRST_WAIT if await self._session() else wait
            await asyncio.sleep(self._chance.uniform(0.5, 1.0) * wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _session(self) -> bool:
        """One session to its end; whether the server welcomed it."""
        async with grpc.aio.insecure_channel(self._server, options=_OPTIONS) as channel:
            call = agents_pb2_grpc.AgentServiceStub(channel).Session()  # type: ignore[no-untyped-call]  # generated
            await call.write(agents_pb2.AgentMessage(hello=self._hello()))
            try:
                answer = await call.read()
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSALS:
                    self._tally.refused += 1
                    self._tally.refusal = error.details() or error.code().name
                raise
            if answer is grpc.aio.EOF:
                return False
            self._tally.connected += 1
            self._tally.sessions += 1
            self._outbox = asyncio.Queue()
            writing = asyncio.create_task(self._write(call, self._outbox))
            beating = asyncio.create_task(self._beat(answer.welcome))
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    if message.HasField("assignment"):
                        self._take(message.assignment, channel)
            finally:
                self._tally.connected -= 1
                tasks = [task for task in (beating, self._work, writing) if task is not None]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                call.cancel()
            return True

    def _hello(self) -> agents_pb2.Hello:
        return agents_pb2.Hello(
            device=self.name,
            profile=self._conduct.profile,
            labels=self._conduct.labels,
            boot_id=self._boot,
            agent_version="hollow",
            current_sha256=self._current,
            assignment=self._assignment,
            state=self._state,
        )

    async def _beat(self, welcome: agents_pb2.Welcome) -> None:
        """Heartbeats and reports, each device at times of its own."""
        beat = self._conduct.heartbeat or welcome.heartbeat_seconds
        report = self._conduct.report or welcome.report_seconds
        now = asyncio.get_running_loop().time()
        next_beat, next_report = now + self._chance.uniform(0, beat), now + self._chance.uniform(0, report)
        while True:
            if now >= next_beat:
                next_beat = now + beat
                self._say(agents_pb2.AgentMessage(heartbeat=agents_pb2.Heartbeat(resident_bytes=1 << 20)))
            if now >= next_report:
                next_report = now + report
                self._report(report)
            await asyncio.sleep(max(0.0, min(next_beat, next_report) - now))
            now = asyncio.get_running_loop().time()

    def _report(self, seconds: float) -> None:
        if not self._version:
            return
        made = max(1, round(self._conduct.rate * seconds))
        took = self._conduct.latency * (self._conduct.slower if self._updated else 1.0)
        spread = self._conduct.spread
        for _ in range(made):
            value = took * self._chance.uniform(1 - spread, 1 + spread)
            self._buckets[bisect.bisect_left(LATENCY_BOUNDS, value)] += 1
            self._seconds += value
        self._count += made
        self._sequence += 1
        energy = [] if self._conduct.joules is None else [
            agents_pb2.EnergyReport(source="external", scope="board", joules=self._count * self._conduct.joules)
        ]  # fmt: skip
        usage = agents_pb2.UsageReport(
            boot_id=self._boot,
            model=self._model,
            version=self._version,
            inferences={"ok": self._count},
            bucket_bounds=LATENCY_BOUNDS,
            bucket_counts=self._buckets,
            duration_sum=self._seconds,
            energy=energy,
        )
        batch = agents_pb2.ReportBatch(sequence=self._sequence, reports=[usage] * self._conduct.batch)
        for part, report in enumerate(batch.reports[1:], start=1):
            report.cohort = f"part-{part}"
        self._say(agents_pb2.AgentMessage(reports=batch))
        self._tally.reports += self._conduct.batch

    def _take(self, assignment: agents_pb2.Assignment, channel: Any) -> None:
        if assignment.id == self._assignment and self._state in ("Committed", "RolledBack"):
            return
        if self._work is not None:
            self._work.cancel()
        self._tally.assigned += 1
        self._tally.last_assigned = time.time()
        self._tally.first_assigned = self._tally.first_assigned or self._tally.last_assigned
        self._work = asyncio.create_task(self._install(assignment, channel))
        self._work.add_done_callback(self._ended)

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._tally.broken += not work.cancelled() and work.exception() is not None

    async def _install(self, assignment: agents_pb2.Assignment, channel: Any) -> None:
        spec, update = assignment.spec, bool(self._current) and assignment.spec.sha256 != self._current
        if update and self._falls_silent:
            await asyncio.Event().wait()
        for state in _STEPS:
            self._move(assignment.id, state)
            if state == "Fetching" and self._conduct.download and spec.sha256 not in (self._current, self._old[0]):
                await self._fetch(channel, spec.sha256)
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * self._conduct.install / len(_STEPS))
        if update and self._fails and spec.sha256 != self._old[0]:
            self._move(assignment.id, "RollingBack", "made to fail")
            self._move(assignment.id, "RolledBack", "made to fail", self._current)
            return
        if spec.sha256 != self._current:
            self._updated = update and spec.sha256 != self._old[0]
            self._old = self._current, self._model, self._version
            self._current, self._model, self._version = spec.sha256, spec.model, spec.version
            self._count, self._seconds, self._buckets = 0, 0.0, [0] * (len(LATENCY_BOUNDS) + 1)
            self._boot = f"{self._chance.getrandbits(64):016x}"
        self._move(assignment.id, "Committed", "", self._current)

    def _move(self, assignment: str, state: str, message: str = "", current: str = "") -> None:
        if self._state:
            self._tally.states[self._state] -= 1
        self._assignment, self._state = assignment, state
        self._tally.states[state] += 1
        move = agents_pb2.Move(assignment=assignment, state=state, message=message, current_sha256=current)
        self._say(agents_pb2.AgentMessage(move=move))

    def _say(self, message: agents_pb2.AgentMessage) -> None:
        self._outbox.put_nowait(message)

    async def _write(self, call: Any, outbox: asyncio.Queue[agents_pb2.AgentMessage]) -> None:
        """The one writer: were a write cancelled with the update that it is about, the whole call would be."""
        while True:
            await call.write(await outbox.get())

    async def _fetch(self, channel: Any, sha256: str) -> None:
        """Download for real, again with growing pauses where the server has no place for one more."""
        wait = _FIRST_WAIT
        while True:
            try:
                return await self._download(channel, sha256)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            self._tally.put_off += 1
            await asyncio.sleep(self._chance.uniform(0.5, 1.0) * wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _download(self, channel: Any, sha256: str) -> None:
        """Hold what came against its digest; the bytes are thrown away."""
        digest = hashlib.sha256()
        request = artifacts_pb2.DownloadBlobRequest(sha256=sha256, accept=["ENCODING_ZSTD", "ENCODING_PLANES"])
        stub = artifacts_pb2_grpc.ArtifactServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        async for chunk in stub.DownloadBlob(request):
            self._tally.downloaded += len(chunk.data)
            digest.update(unpacked(chunk.data, Form(chunk.encoding or Form.IDENTITY.value), None))
        self._tally.corrupt += digest.hexdigest() != sha256
