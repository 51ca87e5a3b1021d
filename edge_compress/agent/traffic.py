"""The model that takes traffic: keeps its process alive, sends it the self-test's inferences, times each one and has
``energy`` bill it.

A process that dies is started again after a back-off; the third death is told to whoever decides (``install``). The first
process can be started before anything else is loaded, so that a device answers soon after a boot.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from edge_compress.agent import framing
from edge_compress.agent.backoff import Backoff
from edge_compress.agent.child import RUN_SECONDS, Child, ChildFailed
from edge_compress.agent.energy import Energy
from edge_compress.agent.machine import Assignment
from edge_compress.agent.probe import Refused
from edge_compress.agent.report import Reports, Subject
from edge_compress.agent.slots import Slots
from edge_compress.agent.spawn import Spawned
from edge_compress.errors import InvalidInput, Unavailable

log = logging.getLogger("edge_compress.agent")

TRIAL_INFERENCES = 5
"""on golden inputs, and as many of applications where there are any"""
TRIAL_SECONDS = 2.0
"""how long a candidate waits for applications' inferences"""
_IN_USE_SECONDS = 60.0
"""since an application's last inference: there may be another one soon"""
STRIKES = 3
_PATIENCE_SECONDS, _AGAIN_SECONDS = 20.0, 0.02
"""how long an application's inference waits for a process, and how often it looks"""
_FORGET_STRIKES_SECONDS = 600.0
_LOOK_SECONDS = 0.5
"""how often a process without self-tests is looked after"""


@dataclass
class _Trial:
    """A candidate that answers applications for a while. ``failure``: why it may not go on; empty: it may."""

    assignment: Assignment
    child: Child
    answered: int = 0
    failure: str = ""


class Traffic:
    """One serving model process and its accounts. ``exhausted(assignment, why)`` hears of every third strike.

    ``rate`` is the self-test's inferences a second, instead of what the assignment asks for.
    """

    def __init__(
        self, slots: Slots, reports: Reports, chance: random.Random, rate: float | None = None, energy: Energy | None = None
    ) -> None:
        self._slots, self._reports, self._rate = slots, reports, rate
        self.energy = energy or Energy(reports)
        self.exhausted: Callable[[Assignment, str], None] = lambda assignment, why: None
        self._backoff = Backoff(chance)
        self._assignment: Assignment | None = None
        self._child: Child | None = None
        self._loaded = False
        self._paused = False
        self._trial: _Trial | None = None
        self._asked_at = -math.inf
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._strikes, self._last_strike = 0, 0.0
        self._index = 0

    @property
    def assignment(self) -> Assignment | None:
        """What is to take traffic outside of a trial."""
        return self._assignment

    @property
    def pids(self) -> tuple[int, ...]:
        """The serving process, if any."""
        return (self._child.pid,) if self._child else ()

    def serve(self, assignment: Assignment | None, child: Child | None = None) -> None:
        """From now on serve ``assignment``, with ``child``, which has loaded it, or with a new process. Ends the old one."""
        old, self._child = self._child, child
        self._assignment, self._loaded = assignment, child is not None
        self._strikes, self._paused = 0, False
        self._backoff.reset()
        if old is not None and old is not child:
            old.kill()
        if assignment is not None and child is None:
            self._child = Child(self._slots, assignment)
        self._changed.set()

    def begin(self, assignment: Assignment | None, spawned: Spawned) -> None:
        """Serve what was committed before the agent started, in the process that was ``spawned`` ahead."""
        if assignment is not None:
            self._assignment, self._child = assignment, Child(self._slots, assignment, spawned)
        else:
            spawned.kill()

    async def pause(self) -> None:
        """End the serving process, after the inference that it is at, and start none until ``resume`` or ``serve``. Applications
        wait meanwhile."""
        self._paused = True
        async with self._turn:
            self.stop()

    def resume(self) -> None:
        """Serve again after a ``pause``; without one it does nothing."""
        self._paused = False
        self._changed.set()

    def remember_peak(self, assignment: Assignment, peak_memory_bytes: int) -> None:
        """Put a probe's figure into the reports."""
        self._reports.remember_peak(self._subject(assignment), peak_memory_bytes)

    async def try_out(self, assignment: Assignment, child: Child) -> None:
        """Give a loaded candidate the traffic for a few inferences, applications' too; what it fails at what serves answers
        instead. Raises Refused at a wrong answer or a failed one, ChildFailed."""
        await child.ask("settle", RUN_SECONDS)
        self._trial = trial = _Trial(assignment, child)
        try:
            for index in range(TRIAL_INFERENCES):
                async with self._turn:
                    mismatch = await self._sample(assignment, child, index)
                if mismatch:
                    raise Refused(f"a wrong answer in the trial: {mismatch}")
            await self._watch(trial)
        finally:
            self._trial = None

    async def _watch(self, trial: _Trial) -> None:
        """Wait for applications' inferences, if there are any. Raises Refused when one failed."""
        deadline = time.monotonic() + TRIAL_SECONDS
        while not trial.failure and trial.answered < TRIAL_INFERENCES and time.monotonic() < deadline:
            if time.monotonic() - self._asked_at > _IN_USE_SECONDS:
                break
            await asyncio.sleep(_AGAIN_SECONDS)
        if trial.failure:
            raise Refused(f"it failed at an application's inference in the trial: {trial.failure}")
        trial.child.check_alive()

    async def predict(self, arrays: Sequence[framing.Array]) -> tuple[Assignment, framing.Frame]:
        """An application's inference, counted and billed, and by which assignment. One whose process is replaced or dies under it
        is made again by the next, once: an input must not kill one process after the other, nor have a good version blamed for
        it. Raises InvalidInput for inputs that the model does not take or dies of, Unavailable where no model serves."""
        self._asked_at = time.monotonic()
        deadline, deaths = self._asked_at + _PATIENCE_SECONDS, 0
        while (self._assignment or self._trial) is not None and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._turn.acquire()
            except TimeoutError:
                break
            try:
                assignment, answer = await self._answered(arrays)
            except ChildFailed as error:
                deaths += 1
                if not error.died or deaths > 1:
                    raise InvalidInput(f"inputs: {error.message}") from None
                assignment, answer = None, None
            finally:
                self._turn.release()
            if assignment is not None and answer is not None:
                self._reports.count(self._subject(assignment), float(answer.fields["seconds"]))
                return assignment, answer
            await asyncio.sleep(_AGAIN_SECONDS)
        raise Unavailable("no model serves now; try again soon")

    async def _answered(self, arrays: Sequence[framing.Array]) -> tuple[Assignment | None, framing.Frame | None]:
        """By a candidate in its trial; by what serves where there is none, or where it failed. Raises ChildFailed."""
        trial = self._trial
        if trial is None or trial.failure:
            return self._assignment, await self._inferred(self._assignment, self._child, arrays)
        try:
            answer = await self._metered(self._subject(trial.assignment), _asked(trial.child, arrays))
        except ChildFailed as error:
            if error.died:
                trial.failure = str(error)
                self._reports.count(self._subject(trial.assignment), None)
                raise
            served = await self._inferred(self._assignment, self._child, arrays)
            if served is not None:
                trial.failure = str(error)  # what serves can do it: it is not the input's fault
            return self._assignment, served
        trial.answered += 1
        return trial.assignment, answer

    async def _inferred(
        self, assignment: Assignment | None, child: Child | None, arrays: Sequence[framing.Array]
    ) -> framing.Frame | None:
        """The answer; None where there is no process yet, or it was replaced. Raises ChildFailed."""
        if assignment is None or child is None or not self._loaded:
            return None
        try:
            return await self._metered(self._subject(assignment), _asked(child, arrays))
        except ChildFailed as error:
            if error.died and self._child is not child:
                return None
            if error.died:
                self._reports.count(self._subject(assignment), None)
                self.stop()
                self._changed.set()  # another one is started at once, without a strike
            raise

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            self._changed.clear()
            assignment = None if self._paused else self._assignment
            if assignment is None:
                await self._changed.wait()
                continue
            try:
                await self._serve_one(assignment)
            except ChildFailed as error:
                await self._strike(assignment, error)

    def stop(self) -> None:
        """End the serving process."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    async def _serve_one(self, assignment: Assignment) -> None:
        """Make sure of a loaded process, wait for the next self-test's time, run it. Returns early when something changed."""
        child = await self._ready(assignment)
        rate = assignment.self_test_per_second if self._rate is None else self._rate
        await self._pause(1.0 / rate if rate > 0 else _LOOK_SECONDS)
        async with self._turn:
            if self._child is not child:
                return
            if rate > 0 and not self.energy.rests():
                self._index += 1
                await self._sample(assignment, child, self._index)
            else:
                child.check_alive()

    async def _ready(self, assignment: Assignment) -> Child:
        if self._child is None:
            self._child, self._loaded = Child(self._slots, assignment), False
        child = self._child
        if not self._loaded:
            await child.loaded()
            await child.ask("settle", RUN_SECONDS)
            log.info("serving %s %s", assignment.model, assignment.version)
            self._loaded = self._child is child
        return child

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _sample(self, assignment: Assignment, child: Child, index: int) -> str:
        """One inference on a golden input, counted and billed. Returns how the answer is wrong; empty: it is right."""
        subject = self._subject(assignment)
        try:
            asking = child.ask("sample", RUN_SECONDS, index=index, rtol=assignment.rtol, atol=assignment.atol)
            answer = await self._metered(subject, asking)
        except ChildFailed as error:
            self._reports.count(subject, None)
            if error.died:
                raise
            return error.message
        mismatch = str(answer.fields["mismatch"])
        self._reports.count(subject, None if mismatch else float(answer.fields["seconds"]))
        return mismatch

    def _subject(self, assignment: Assignment) -> Subject:
        return self._reports.subject(assignment.model, assignment.version, assignment.cohort)

    async def _metered(self, subject: Subject, asking: Awaitable[framing.Frame]) -> framing.Frame:
        """The answer, its energy billed."""
        self.energy.begins()
        try:
            answer = await asking
        except BaseException:
            self.energy.ends(None)
            raise
        self.energy.ends(subject, float(answer.fields["seconds"]), float(answer.fields["cpu_seconds"]))
        return answer

    async def _strike(self, assignment: Assignment, error: ChildFailed) -> None:
        """Note a death, wait, and leave the restart to the next round."""
        if assignment is not self._assignment or self._paused:
            return
        self.stop()
        now = time.monotonic()
        self._strikes = 1 if now - self._last_strike > _FORGET_STRIKES_SECONDS else self._strikes + 1
        self._last_strike = now
        log.warning("%s %s: %s (strike %d)", assignment.model, assignment.version, error, self._strikes)
        if self._strikes % STRIKES == 0:
            self.exhausted(assignment, f"{error}, {self._strikes} times")
        await self._pause(self._backoff.next())


async def _asked(child: Child, arrays: Sequence[framing.Array]) -> framing.Frame:
    """An application's inference. An application that hangs up must not end the process that serves the others: shielded."""
    asked = asyncio.ensure_future(child.ask("infer", RUN_SECONDS, arrays))
    asked.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(asked)
