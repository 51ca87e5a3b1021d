"""One live session with an agent: what waits to be sent to it, and how it ends.

Only the newest assignment and the newest acknowledgement wait, since each replaces those before it: a slow agent costs no
memory. What is said over a session is decided in ``fleet``; how it travels is the servicer's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from edge_compress.domain.session import Assignment, Hello
from edge_compress.errors import EdgeCompressError


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Report batches up to ``sequence`` are stored."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """Accepts a session. Seconds; watts of one busy core where the profile declares them; seconds since the epoch."""

    heartbeat_seconds: float
    report_seconds: float
    watts_per_core: float | None
    server_time: float


class Session:
    """A live session. Everything happens on one event loop. There are thousands: it is kept small."""

    __slots__ = (
        "_acknowledged",
        "_assignment",
        "_ended",
        "_error",
        "_something",
        "_waiter",
        "current_sha256",
        "heard",
        "hello",
        "told",
        "usage_shown",
        "welcome",
    )

    def __init__(self, hello: Hello, welcome: Welcome, heard: float) -> None:
        self.hello = hello
        self.welcome = welcome
        self.heard = heard
        """when the agent last said anything, on a clock that does not jump"""
        self.current_sha256 = hello.current_sha256
        self.told = ""
        """assignment last put in the way of this session"""
        self.usage_shown = float("-inf")
        """when its usage was last written to the device's status, on the same clock as ``heard``"""
        self._assignment: Assignment | None = None
        self._acknowledged: Acknowledged | None = None
        self._something = False  # waits; an Event would take more than all the rest
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._error: EdgeCompressError | None = None

    @property
    def device(self) -> str:
        """Name of the device it speaks for."""
        return self.hello.device

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._ended

    def offer(self, assignment: Assignment) -> None:
        """Send ``assignment``, instead of one that was not sent yet."""
        self.told = assignment.id
        self._assignment = assignment
        self._wake()

    def acknowledge(self, sequence: int) -> None:
        """Tell the agent that its batches up to ``sequence`` are stored."""
        self._acknowledged = Acknowledged(sequence)
        self._wake()

    def end(self, error: EdgeCompressError | None = None) -> None:
        """End it, for the agent with ``error``. The first reason stays."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    async def outgoing(self) -> AsyncIterator[Assignment | Acknowledged]:
        """What to send, until the session ends. Raises the error it ended with."""
        while True:
            await self._woken()
            if self._acknowledged is not None:
                acknowledged, self._acknowledged = self._acknowledged, None
                yield acknowledged
            if self._assignment is not None and not self._ended:
                assignment, self._assignment = self._assignment, None
                yield assignment
            if self._ended:
                if self._error is not None:
                    raise self._error
                return

    def _wake(self) -> None:
        self._something = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _woken(self) -> None:
        if not self._something:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._something, self._waiter = False, None
