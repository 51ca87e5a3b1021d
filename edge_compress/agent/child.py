"""The agent's side of a model process: load a model in it, ask it something, end it. What it answers is ``runner``'s affair."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from edge_compress.agent import framing
from edge_compress.agent.machine import Assignment
from edge_compress.agent.slots import Slots
from edge_compress.agent.spawn import Spawned
from edge_compress.errors import EdgeCompressError

LOAD_SECONDS = 120.0
RUN_SECONDS = 60.0


class ChildFailed(EdgeCompressError):
    """The model process ended, hung or could not do what was asked. ``died`` tells the first two from the last."""

    def __init__(self, message: str, *, died: bool) -> None:
        super().__init__(message)
        self.died = died


def load_message(slots: Slots, assignment: Assignment) -> bytes:
    """What has a model process load a staged assignment."""
    files = {"model": str(slots.model(assignment)), "golden": str(slots.golden(assignment))}
    return framing.pack({"verb": "load", "threads": assignment.threads, **files})


class Child:
    """A model process that has been told to load a model; await ``loaded`` before the first ``ask``."""

    def __init__(self, slots: Slots, assignment: Assignment, spawned: Spawned | None = None) -> None:
        """Start a process, or take over one that is ``spawned`` and was sent nothing."""
        self._spawned = spawned or Spawned()
        # A process that is dead already shows in the first answer.
        with contextlib.suppress(OSError):
            self._spawned.send(load_message(slots, assignment))
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._spawned.process.pid

    async def loaded(self) -> None:
        """Return once the model is loaded. Raises ChildFailed when it cannot be."""
        await self._answer("load", LOAD_SECONDS, b"")

    async def ask(self, verb: str, within: float, arrays: Sequence[framing.Array] = (), **fields: Any) -> framing.Frame:
        """Its answer, in that many seconds. Raises ChildFailed when it ends, hangs (it is killed) or answers with an error."""
        return await self._answer(verb, within, framing.pack({"verb": verb, **fields}, arrays))

    def check_alive(self) -> None:
        """Raises ChildFailed when it has ended by itself."""
        if self._spawned.process.poll() is not None:
            raise ChildFailed(f"the model process {self._ending()}", died=True)

    def kill(self) -> None:
        """End it now; does nothing when it has ended."""
        self._spawned.kill()
        if self._writer is not None:
            self._writer.close()

    async def _answer(self, verb: str, within: float, message: bytes) -> framing.Frame:
        async with self._turn:
            try:
                async with asyncio.timeout(within):
                    frame = await self._exchange(message)
            except TimeoutError:
                self.kill()
                raise ChildFailed(f"the model process did not answer {verb} within {within:g} s", died=True) from None
            except (OSError, EOFError, ValueError):
                raise ChildFailed(f"the model process {self._ending()} during {verb}", died=True) from None
            except asyncio.CancelledError:
                self.kill()  # its answer would be taken for the next one's
                raise
        if "error" in frame.fields:
            raise ChildFailed(f"the model process could not {verb}: {frame.fields['error']}", died=False)
        return frame

    async def _exchange(self, message: bytes) -> framing.Frame:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(sock=self._spawned.connection)
        self._writer.write(message)
        await self._writer.drain()
        header, body = framing.lengths(await self._reader.readexactly(framing.PREFIX.size))
        return framing.unpack(await self._reader.readexactly(header), await self._reader.readexactly(body))

    def _ending(self) -> str:
        """How it ended, in words. Its socket is closed, so that it is ending if it has not ended yet."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._spawned.process.wait(timeout=1.0)
        self.kill()
        code = self._spawned.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
