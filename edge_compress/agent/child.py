"""The agent's side of a model process: start it, ask it something, end it. What it answers is ``runner``'s affair."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from edge_compress.agent import framing
from edge_compress.agent.machine import Assignment
from edge_compress.agent.slots import Slots
from edge_compress.errors import EdgeCompressError

LOAD_SECONDS = 120.0
RUN_SECONDS = 60.0
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
"""one model and one caller: more heaps and numpy's own threads would only cost memory"""


class ChildFailed(EdgeCompressError):
    """The model process ended, hung or could not do what was asked. ``died`` tells the first two from the last."""

    def __init__(self, message: str, *, died: bool) -> None:
        super().__init__(message)
        self.died = died


class Child:
    """One model process. Starts at once; ``connect`` before the first ``ask``."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "edge_compress.agent.runner", str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **_ALLOCATOR},
            )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def load(self, slots: Slots, assignment: Assignment) -> None:
        """Have it load a staged assignment. Raises ChildFailed."""
        await self.ask(
            "load",
            LOAD_SECONDS,
            model=str(slots.model(assignment)),
            golden=str(slots.golden(assignment)),
            threads=assignment.threads,
        )

    async def ask(self, verb: str, within: float, arrays: Sequence[framing.Array] = (), **fields: Any) -> framing.Frame:
        """Its answer, ``within`` seconds. Raises ChildFailed when it ends, hangs (it is killed) or answers with an error."""
        async with self._turn:
            try:
                async with asyncio.timeout(within):
                    frame = await self._exchange(framing.pack({"verb": verb, **fields}, arrays))
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

    def check_alive(self) -> None:
        """Raises ChildFailed when it has ended by itself."""
        if self._process.poll() is not None:
            raise ChildFailed(f"the model process {self._ending()}", died=True)

    def kill(self) -> None:
        """End it now; does nothing when it has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._writer is not None:
            self._writer.close()
        else:
            self._ours.close()

    async def _exchange(self, message: bytes) -> framing.Frame:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(sock=self._ours)
        self._writer.write(message)
        await self._writer.drain()
        header, body = framing.lengths(await self._reader.readexactly(framing.PREFIX.size))
        return framing.unpack(await self._reader.readexactly(header), await self._reader.readexactly(body))

    def _ending(self) -> str:
        """How it ended, in words. Its socket is closed, so that it is ending if it has not ended yet."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self.kill()
        code = self._process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
