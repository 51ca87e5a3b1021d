"""An agent as the wire sees one: a real gRPC session that says what a test tells it to."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import grpc

from edge_compress.agent.report import BOUNDS
from edge_compress.api.v1 import agents_pb2, agents_pb2_grpc


class WireAgent:
    """One session. ``async with`` says hello and hears the welcome."""

    def __init__(self, port: int, device: str, profile: str = "cam", boot: str = "boot-1", **hello: Any) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.hello = agents_pb2.Hello(device=device, profile=profile, boot_id=boot, **hello)
        self.boot = boot
        self.sequence = 0

    async def __aenter__(self) -> Self:
        self.call = agents_pb2_grpc.AgentServiceStub(self._channel).Session(timeout=60)
        self.assignments: asyncio.Queue[agents_pb2.Assignment] = asyncio.Queue()
        self._acknowledged: asyncio.Queue[int] = asyncio.Queue()
        await self.say(hello=self.hello)
        self.welcome = (await self.call.read()).welcome
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self.call.cancel()
        await self._channel.close()

    async def say(self, **message: Any) -> None:
        await self.call.write(agents_pb2.AgentMessage(**message))

    async def assigned(self) -> agents_pb2.Assignment:
        """The next assignment."""
        async with asyncio.timeout(10):
            return await self.assignments.get()

    async def ended(self) -> grpc.StatusCode:
        """How the server ended the session."""
        async with asyncio.timeout(10):
            await asyncio.wait([self._listening])
            return await self.call.code()

    async def _listen(self) -> None:
        # The one reader: a read that is cancelled, by a timeout say, takes the whole call with it.
        while (message := await self.call.read()) is not grpc.aio.EOF:
            if message.HasField("assignment"):
                self.assignments.put_nowait(message.assignment)
            elif message.HasField("ack"):
                self._acknowledged.put_nowait(message.ack.sequence)

    async def commit(self, assignment: agents_pb2.Assignment) -> None:
        for state in ("Preflight", "Fetching", "Verifying", "Staged", "Probing", "Trial"):
            await self.say(move=agents_pb2.Move(assignment=assignment.id, state=state))
        await self.say(move=agents_pb2.Move(assignment=assignment.id, state="Committed", current_sha256=assignment.spec.sha256))

    async def report(self, *reports: agents_pb2.UsageReport) -> None:
        """Send a batch and wait until it is acknowledged."""
        self.sequence += 1
        await self.say(reports=agents_pb2.ReportBatch(sequence=self.sequence, reports=reports))
        async with asyncio.timeout(10):
            while await self._acknowledged.get() != self.sequence:
                pass


def usage(count: int, seconds: float = 0.003, *, boot: str = "boot-1", version: str = "v1", joules: float | None = None) -> Any:
    """A report of ``count`` inferences of ``seconds`` each."""
    counts = [0] * (len(BOUNDS) + 1)
    counts[next(index for index, bound in enumerate((*BOUNDS, float("inf"))) if seconds <= bound)] = count
    energy = [] if joules is None else [agents_pb2.EnergyReport(source="estimate", scope="process", joules=joules)]
    return agents_pb2.UsageReport(
        boot_id=boot,
        model="vision",
        version=version,
        inferences={"ok": count},
        bucket_bounds=BOUNDS,
        bucket_counts=counts,
        duration_sum=count * seconds,
        energy=energy,
    )
