"""The agent's one stream to the server: greets, says what it did, hears what to do, and comes back for ever when the link breaks.

Leaves the meaning of assignments to ``install`` and of totals to ``report``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from edge_compress import __version__
from edge_compress.agent import messages
from edge_compress.agent.backoff import Backoff
from edge_compress.agent.machine import Assignment, Position
from edge_compress.agent.report import Reports
from edge_compress.agent.setup import Setup
from edge_compress.api.v1 import agents_pb2, agents_pb2_grpc
from edge_compress.domain.fleet import DeviceFacts
from edge_compress.errors import InvalidSpec, StartupError, Unavailable

log = logging.getLogger("edge_compress.agent")

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    # Each try has its own channel, whose only back-off is ours: gRPC's shared one would outlive the channel.
    ("grpc.use_local_subchannel_pool", 1),
)
WELCOME_SECONDS = 20.0
_STABLE_SECONDS = 10.0
"""a session shorter than this does not reset the back-off: two agents of one name must not chase each other at full speed"""
_MAX_OUTBOX = 100
"""messages that wait for a server that does not read: heartbeats and reports can be left out, moves cannot"""
_REFUSALS = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)


@dataclass(frozen=True)
class Callbacks:
    """What the session asks of the rest of the agent."""

    position: Callable[[], Position]
    assigned: Callable[[Assignment], None]
    welcomed: Callable[[float | None], None]
    """watts per core, where the profile declares them"""
    resident_bytes: Callable[[], int]
    facts: Callable[[], DeviceFacts]


class Session:
    """Keeps one session open."""

    def __init__(self, setup: Setup, callbacks: Callbacks, reports: Reports, chance: random.Random) -> None:
        self._setup, self._callbacks, self._reports = setup, callbacks, reports
        self._server, self._texts = setup.server, _texts(setup, reports.boot_id)
        self._backoff = Backoff(chance)
        self._outbox: asyncio.Queue[agents_pb2.AgentMessage] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._connected = asyncio.Event()
        self._known = False
        self._welcomed_at = math.inf

    async def run(self) -> None:
        """Connect, and again whenever the link breaks, until cancelled. Raises StartupError when the first contact is refused."""
        while True:
            try:
                await self._once()
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, Unavailable, TimeoutError) as error:
                self._raise_if_refused(error)
                if time.monotonic() - self._welcomed_at >= _STABLE_SECONDS:
                    self._backoff.reset()
                self._welcomed_at = math.inf
                delay = self._backoff.next()
                log.info("%s; trying again in %.1f s", _why(error, self._server), delay)
                await asyncio.sleep(delay)

    def announce(self, position: Position) -> None:
        """Tell the server of a move, now if connected; else the next session begins with where the agent stands."""
        message = messages.move(position)
        if message is not None and self._outbox is not None:
            self._outbox.put_nowait(message)

    @property
    def connected(self) -> bool:
        """Whether the server hears this agent now."""
        return self._connected.is_set()

    async def channel(self) -> grpc.aio.Channel:
        """The channel of the session, once there is one."""
        await self._connected.wait()
        assert self._channel is not None
        return self._channel

    async def _once(self) -> None:
        """One session, from connecting to its end, which always raises."""
        async with grpc.aio.insecure_channel(self._server, options=CHANNEL_OPTIONS) as channel:
            call = agents_pb2_grpc.AgentServiceStub(channel).Session()  # type: ignore[no-untyped-call]  # generated
            try:
                welcome = await self._greet(call)
                self._channel, self._outbox = channel, asyncio.Queue()
                self._connected.set()
                self._welcomed_at = time.monotonic()
                self.announce(self._callbacks.position())
                await self._converse(call, welcome)
            finally:
                self._connected.clear()
                self._channel = self._outbox = None
                self._reports.forget_sent()
                await _goodbye(call)

    async def _greet(self, call: grpc.aio.StreamStreamCall) -> agents_pb2.Welcome:
        async with asyncio.timeout(WELCOME_SECONDS):
            await call.write(messages.hello(self._callbacks.position(), self._texts, self._setup.labels, self._callbacks.facts()))
            answer = await call.read()
        if answer is grpc.aio.EOF or not answer.HasField("welcome"):
            raise Unavailable("the server ended the session without a welcome")
        self._known = True
        log.info("connected to %s", self._server)
        watts = answer.welcome.watts_per_core if answer.welcome.HasField("watts_per_core") else None
        self._callbacks.welcomed(watts)
        welcome: agents_pb2.Welcome = answer.welcome
        return welcome

    async def _converse(self, call: grpc.aio.StreamStreamCall, welcome: agents_pb2.Welcome) -> None:
        beat = self._setup.heartbeat or min(max(welcome.heartbeat_seconds, 1.0), 300.0)
        report = self._setup.report or max(welcome.report_seconds, 0.1)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(call))
                group.create_task(self._write(call))
                group.create_task(self._every(beat, lambda: messages.heartbeat(self._callbacks.resident_bytes())))
                group.create_task(self._every(report, self._batch))
        except* (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as broken:
            raise await _status(call, broken) from None
        except* Unavailable:
            raise await _status(call, None) from None

    async def _listen(self, call: grpc.aio.StreamStreamCall) -> None:
        while (message := await call.read()) is not grpc.aio.EOF:
            if message.HasField("ack"):
                self._reports.acknowledge(message.ack.sequence)
            elif message.HasField("assignment"):
                self._take(message.assignment)
        raise Unavailable("the server ended the session")

    def _take(self, message: agents_pb2.Assignment) -> None:
        try:
            assignment = messages.assignment(message)
        except InvalidSpec as error:
            log.warning("an assignment was refused: %s", error)
            refusal = agents_pb2.Move(assignment=message.id, state="RolledBack", message=str(error))
            if self._outbox is not None and message.id:
                self._outbox.put_nowait(agents_pb2.AgentMessage(move=refusal))
            return
        self._callbacks.assigned(assignment)

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:
        assert self._outbox is not None
        while True:
            await call.write(await self._outbox.get())

    async def _every(self, seconds: float, make: Callable[[], agents_pb2.AgentMessage | None]) -> None:
        while self._outbox is not None:
            message = make()
            if message is not None and self._outbox.qsize() < _MAX_OUTBOX:
                self._outbox.put_nowait(message)
            await asyncio.sleep(seconds)

    def _batch(self) -> agents_pb2.AgentMessage | None:
        batch = self._reports.batch()
        return messages.reports(*batch) if batch else None

    def _raise_if_refused(self, error: Exception) -> None:
        if not self._known and isinstance(error, grpc.aio.AioRpcError) and error.code() in _REFUSALS:
            raise StartupError(f"{self._server} refused this agent: {error.details()}") from None


async def _goodbye(call: grpc.aio.StreamStreamCall) -> None:
    """Half-close, so that the server knows at once, then let go."""
    with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, TimeoutError):
        async with asyncio.timeout(0.3):
            await call.done_writing()
    call.cancel()


async def _status(call: grpc.aio.StreamStreamCall, broken: BaseExceptionGroup | None) -> Exception:
    """How the call ended, as the error it was; Unavailable where gRPC does not say."""
    for error in broken.exceptions if broken else ():
        if isinstance(error, grpc.aio.AioRpcError):
            refused: Exception = error
            return refused
    if call.done():
        return Unavailable(f"{(await call.code()).name}: {await call.details()}")
    return Unavailable("the server ended the session")


def _why(error: Exception, server: str) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        details = (error.details() or "").partition("; last error")[0].partition("\n")[0]
        return f"{server}: {error.code().name}: {details}"
    return f"{server}: {str(error) or 'no answer'}"


def _texts(setup: Setup, boot_id: str) -> dict[str, str]:
    return {
        "device": setup.name,
        "profile": setup.profile,
        "boot_id": boot_id,
        "agent_version": __version__,
        "runtime_version": _runtime_version(),
        "machine": os.uname().machine,
    }


def _runtime_version() -> str:
    """The installed onnxruntime's version, from the name of its metadata: importing it here would cost what the child is for."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return ""
    found = Path(spec.origin).parent.parent.glob("onnxruntime-*.dist-info")
    return next((path.name.removeprefix("onnxruntime-").removesuffix(".dist-info") for path in found), "")
