"""Carries an assignment through its states: one small, repeatable piece of work for each, a roll-back when one fails.

Every move is journalled before its work begins, so that a kill at any moment is followed by the same work again. A candidate
that does not fit gives way to the next-best one that came with the assignment; whatever goes wrong with an update, what served
before it goes on serving. Leaves bytes to ``slots`` and ``transfer``, verdicts to ``preflight`` and ``probe``, processes to
``traffic``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edge_compress.agent.child import Child
from edge_compress.agent.journal import Journal
from edge_compress.agent.machine import Assignment, Position
from edge_compress.agent.preflight import Clearance, NoRoom, Preflight
from edge_compress.agent.probe import Refused, probe
from edge_compress.agent.traffic import Traffic
from edge_compress.agent.transfer import Base, Transfer, Unlike
from edge_compress.domain.fleet import DeviceState
from edge_compress.errors import Corrupt, EdgeCompressError

log = logging.getLogger("edge_compress.agent")

_MAX_RESTARTS = 3
"""how often the agent may go down while a candidate runs before the candidate is blamed"""
_RETRY_JOURNAL_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 5.0
"""at the clock and the battery, while an update waits for them"""
_NO_MORE = "the differences came out wrong, and nothing else may be fetched on this link"
_MEMORY_TRIES, _MEMORY_PAUSE_SECONDS = 5, 1.0


@dataclass(frozen=True)
class _Exhausted:
    """The serving model's process died too often."""

    assignment: Assignment
    why: str


class Install:
    """Works on one assignment at a time; a newer one replaces it. ``announce`` hears every move."""

    def __init__(
        self, preflight: Preflight, journal: Journal, transfer: Transfer, traffic: Traffic, announce: Callable[[Position], None]
    ) -> None:
        self._preflights, self._slots = preflight, preflight.slots
        self._journal, self._transfer, self._traffic = journal, transfer, traffic
        self._announce = announce
        self._inbox: asyncio.Queue[Assignment | _Exhausted | Exception] = asyncio.Queue()
        self._begun = ""
        """the assignment begun last; for a moment the journal does not know it yet"""
        self._candidate: Child | None = None
        self._based = True
        """whether what was fetched may be made of differences; after a restart nobody knows"""
        self._work: dict[DeviceState, Callable[[Assignment], Awaitable[None]]] = {
            DeviceState.PREFLIGHT: self._preflight,
            DeviceState.FETCHING: self._fetch,
            DeviceState.VERIFYING: self._verify,
            DeviceState.STAGED: self._stage,
            DeviceState.PROBING: self._probe,
            DeviceState.TRIAL: self._try_out,
            DeviceState.COMMITTED: self._commit,
        }

    @property
    def position(self) -> Position:
        """Where the agent stands."""
        return self._journal.position

    @property
    def pids(self) -> tuple[int, ...]:
        """The candidate's process, if any."""
        return (self._candidate.pid,) if self._candidate else ()

    def assign(self, assignment: Assignment) -> None:
        """Take note of what the server wants; repeats are harmless."""
        self._inbox.put_nowait(assignment)

    def exhausted(self, assignment: Assignment, why: str) -> None:
        """Take note that the serving model's process died too often."""
        self._inbox.put_nowait(_Exhausted(assignment, why))

    async def run(self) -> None:
        """Go on from the journal, then follow assignments until cancelled. Raises only what a roll-back could not deal with."""
        work = self._start(self._resume)
        try:
            while True:
                event = await self._inbox.get()
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Assignment) and self._is_new(event):
                    await _halt(work)
                    self._begun = event.id
                    work = self._start(partial(self._begin, event))
                elif isinstance(event, _Exhausted) and self._is_to_blame(event.assignment):
                    await _halt(work)
                    work = self._start(partial(self._roll_back, event.why))
                else:
                    self._announce(self.position)
        finally:
            await _halt(work)
            self._drop_candidate()

    def _start(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Work in the background; what it raises comes back through the inbox."""

        async def watched() -> None:
            try:
                await work()
            except Exception as error:
                self._inbox.put_nowait(error)

        return asyncio.create_task(watched())

    def _is_new(self, assignment: Assignment) -> bool:
        known = self.position.assignment
        return assignment.id != self._begun and (known is None or known.id != assignment.id)

    def _is_to_blame(self, assignment: Assignment) -> bool:
        serving = self.position.serving
        return self.position.state is DeviceState.COMMITTED and serving is not None and serving.id == assignment.id

    async def _begin(self, assignment: Assignment) -> None:
        if self.position.state is DeviceState.ROLLING_BACK:
            await self._finish_roll_back()
        self._drop_candidate()
        self._traffic.resume()  # what serves may have been stopped for the candidate
        await self._record_surely(self.position.assigned(assignment))
        await self._advance()

    async def _resume(self) -> None:
        position = self.position
        if position.state is DeviceState.ROLLING_BACK:
            await self._finish_roll_back()
        elif position.state in (DeviceState.PROBING, DeviceState.TRIAL):
            await self._again(replace(position, restarts=position.restarts + 1))
        elif position.state is DeviceState.COMMITTED or not position.settled:
            await self._advance()

    async def _again(self, position: Position) -> None:
        """Run a candidate once more after a restart, unless it seems to be what takes the agent down."""
        if position.restarts > _MAX_RESTARTS:
            await self._give_up(f"the agent went down {position.restarts} times in {position.state}")
        else:
            await self._record_surely(position)
        await self._advance()

    async def _advance(self) -> None:
        """Do the work of each state in turn until nothing is left to do; what fails gives way to the next-best artifact."""
        while not self.position.settled or self.position.state is DeviceState.COMMITTED:
            why = await self._carried_out()
            if not why:
                return
            await self._give_up(why)

    async def _carried_out(self) -> str:
        """Commit the assignment; returns why that failed, empty: it did not."""
        try:
            while True:
                state, assignment = self.position.state, self.position.assignment
                assert assignment is not None
                await self._work[state](assignment)
                if state is DeviceState.COMMITTED:
                    return ""
        except (EdgeCompressError, OSError) as error:
            return _reason(error)
        except Exception as error:  # a fault of ours must not take the device's model down with it
            log.exception("a fault in the agent")
            return f"{type(error).__name__}: {error}"

    async def _give_up(self, why: str) -> None:
        """Begin with the next-best artifact where one came along; else roll back."""
        assignment = self.position.assignment
        if assignment is None or not assignment.fallbacks or self.position.state is DeviceState.COMMITTED:
            await self._roll_back(why)
            return
        self._drop_candidate()
        self._traffic.resume()
        await self._record_surely(self.position.fallen_back(why))
        self._tidy()

    async def _preflight(self, assignment: Assignment) -> None:
        self._slots.sweep_partials(frozenset({assignment.sha256, assignment.golden_sha256}))
        while why := self._preflights.reason_to_wait():
            if why != self.position.message:
                self._record(replace(self.position, message=why, waits=True))
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        clearance = await self._clear(assignment)
        said = "; ".join(filter(None, (*self.position.refusals, clearance.why)))
        self._move(DeviceState.FETCHING, message=said, waits=False, alone=clearance.alone, base=clearance.base)

    async def _clear(self, assignment: Assignment) -> Clearance:
        """May it begin? What takes the memory just now may be about to give it back: a model that is being loaded takes most."""
        for _ in range(_MEMORY_TRIES - 1):
            with contextlib.suppress(NoRoom):
                return await asyncio.to_thread(self._preflights.clear, self.position, assignment)
            await asyncio.sleep(_MEMORY_PAUSE_SECONDS)
        return await asyncio.to_thread(self._preflights.clear, self.position, assignment)

    async def _fetch(self, assignment: Assignment) -> None:
        await self._fetch_files(assignment, self._base())
        self._move(DeviceState.VERIFYING)

    async def _fetch_files(self, assignment: Assignment, base: Assignment | None) -> None:
        """``base``: whose files differences may go to. Golden vectors have the same inputs from one version to the next."""
        if self._slots.staged(assignment):
            return
        if assignment.differences_only and base is None:
            raise Refused(_NO_MORE)
        slots, rate = self._slots, assignment.bytes_per_second
        old = None if base is None else Base(base.sha256, slots.model(base))
        told = None if base is None else Base(base.golden_sha256, slots.golden(base))
        whole = not assignment.differences_only
        golden = slots.partial(assignment.golden_sha256)
        try:
            model = await self._transfer.fetch(
                assignment.sha256, assignment.bytes, slots.partial(assignment.sha256), old, rate, whole
            )
            other = await self._transfer.fetch(assignment.golden_sha256, assignment.golden_bytes, golden, told, rate, whole)
        except Unlike as error:
            self._count_wrong(1)
            raise Refused(f"{_NO_MORE}: {error}") from None
        self._based, wrong = model.based or other.based, model.wrong + other.wrong
        if wrong:
            self._count_wrong(wrong)

    def _count_wrong(self, times: int) -> None:
        """Differences came out wrong: no more are asked for in this assignment."""
        self._record(replace(self.position, base="", bad_differences=self.position.bad_differences + times))

    def _base(self) -> Assignment | None:
        """What serves now, to which an update may come as differences; the preflight made sure of it."""
        serving = self.position.serving
        return serving if serving is not None and serving.sha256 == self.position.base else None

    async def _verify(self, assignment: Assignment) -> None:
        try:
            await asyncio.to_thread(self._slots.verify, assignment)
        except Corrupt as error:
            if not self._based or self.position.serving is None:
                raise
            self._count_wrong(1)
            if assignment.differences_only:
                raise Refused(f"{_NO_MORE}: {error}") from None
            log.warning("an update by differences is wrong, all of it is fetched: %s", error)
            await self._fetch_files(assignment, None)
            await asyncio.to_thread(self._slots.verify, assignment)
        self._move(DeviceState.STAGED)

    async def _stage(self, assignment: Assignment) -> None:
        self._slots.stage(assignment)
        self._move(DeviceState.PROBING)

    async def _probe(self, assignment: Assignment) -> None:
        child = await self._load_candidate(assignment)
        figures = await probe(child, assignment)
        self._traffic.remember_peak(assignment, figures.peak_memory_bytes)
        self._move(DeviceState.TRIAL, p95_seconds=figures.p95_seconds, peak_memory_bytes=figures.peak_memory_bytes)

    async def _try_out(self, assignment: Assignment) -> None:
        child = self._candidate or await self._load_candidate(assignment)
        await self._traffic.try_out(assignment, child)
        self._record(self.position.committed())

    async def _commit(self, assignment: Assignment) -> None:
        self._slots.switch(assignment)
        if self._candidate is not None:
            child, self._candidate = self._candidate, None
            self._traffic.serve(assignment, child)
        self._tidy()

    async def _load_candidate(self, assignment: Assignment) -> Child:
        self._drop_candidate()
        if self.position.alone:
            await self._traffic.pause()
        self._candidate = Child(self._slots, assignment)
        await self._candidate.loaded()
        return self._candidate

    def _drop_candidate(self) -> None:
        if self._candidate is not None:
            self._candidate.kill()
            self._candidate = None

    def _move(self, state: DeviceState, **changes: Any) -> None:
        self._record(self.position.moved(state, **changes))

    def _record(self, position: Position) -> None:
        """Make a move: into the journal first, then to the server. Raises OSError."""
        self._journal.append(position)
        who = position.assignment.artifact or position.assignment.id if position.assignment else "-"
        log.info("%s: %s%s", who, position.state, f" ({position.message})" if position.message else "")
        self._announce(position)

    async def _roll_back(self, why: str) -> None:
        self._drop_candidate()
        self._slots.sweep_partials()
        await self._record_surely(self.position.rolling_back(why))
        await self._finish_roll_back()

    async def _finish_roll_back(self) -> None:
        """Back to what served before, or to nothing when that is gone too."""
        back_to = self.position.serving
        if back_to is not None and not self._slots.staged(back_to):
            back_to = None
        self._slots.switch(back_to)
        if self._traffic.assignment != back_to:
            self._traffic.serve(back_to)
        self._traffic.resume()
        await self._record_surely(self.position.moved(DeviceState.ROLLED_BACK, serving=back_to))
        self._tidy()

    async def _record_surely(self, position: Position) -> None:
        """As ``_record``, but a full disk only delays it: nothing begins that a restart would not know of."""
        while True:
            try:
                self._record(position)
            except OSError as error:
                log.error("the journal cannot be written: %s", error)
                await asyncio.sleep(_RETRY_JOURNAL_SECONDS)
            else:
                return

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            self._slots.sweep(self.position.needed)
            self._slots.sweep_partials()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
    return str(error)


async def _halt(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.wait({work})  # awaited itself, its cancellation could not be told from ours
