"""Reads the device's energy meter at the right moments and bills the model that ran.

A counter that is quick is read around each inference, any other now and then, aside, at moments that do not beat with inferences
at a fixed rate. One that stops working is left for the next. When a window of joules may end is ``window``'s affair, what it
means ``ledger``'s, and which meters there are that of ``meters``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_compress.agent import meters, plugins
from edge_compress.agent.aside import aside
from edge_compress.agent.ledger import Ledger
from edge_compress.agent.report import Reports, Subject
from edge_compress.agent.window import Moment, Window
from edge_compress.domain.energy import MeterSite
from edge_compress.errors import StartupError

if TYPE_CHECKING:
    from edge_compress.plugin import EnergyMeter

log = logging.getLogger("edge_compress.agent")

_OPEN_SECONDS, _READ_SECONDS = 30.0, 10.0
_OFFLINE_SECONDS = 10.0
"""how long the first look for a meter waits for the server's word on watts"""
_LOOK_SECONDS = 60.0
_REST_SECONDS, _REST_EVERY_SECONDS = 120.0, 600.0
_RESTING_LOOK_SECONDS = 0.5


class Energy:
    """The energy of one agent's inferences. ``asked``: the setting, the command and the URL of its owner."""

    def __init__(
        self,
        reports: Reports,
        asked: tuple[str, str, str] = (meters.AUTO, "", ""),
        root: Path = Path("/"),
        offers: Callable[[], Sequence[EnergyMeter]] = lambda: plugins.offered(meters.HOOK),
        clock: Callable[[], float] = time.monotonic,
        since_boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._reports, self._asked, self._root, self._offers = reports, asked, root, offers
        self._clock, self._since_boot = clock, since_boot
        self.quiet: Callable[[], bool] = lambda: True
        """whether no update is under way, which an idle device would not draw for"""
        self.disturbed: Callable[[], bool] = lambda: False
        """whether a candidate computes beside what serves: inferences are owed meanwhile"""
        self._watts: float | None = None
        self._cpu_seconds = 0.0
        self._changed = asyncio.Event()
        self._choice: meters.Choice | None = None
        self._opened: meters.Opened | None = None
        self._ledger = Ledger()
        self._window: Window | None = None
        self._spoiled = False
        self._idle_at = self._rest_at = -_REST_EVERY_SECONDS
        self._declared = False
        self._ended_at = -math.inf
        self._closing: asyncio.TimerHandle | None = None

    @property
    def label(self) -> str | None:
        """The meter in use, as ``source/scope``."""
        return self._opened.label if self._opened else None

    def rests(self) -> bool:
        """Whether self-tests had better wait a little, so that it is seen what the idle device draws."""
        if self._opened is None or not self._opened.counter.shared:
            return False
        now = self._clock()
        if self._ledger.idle_watts is not None and now - self._idle_at < _REST_EVERY_SECONDS:
            return False
        if now - self._rest_at >= _REST_EVERY_SECONDS:
            self._rest_at = now
        return now - self._rest_at < _REST_SECONDS

    def declare(self, watts_per_core: float | None) -> None:
        """The server said what the profile declares; the first time, a meter is looked for."""
        known, self._declared = self._declared, True
        if known and watts_per_core == self._watts:
            return
        self._watts = watts_per_core
        if self._opened is None or self._opened.meter.source == "estimate":
            self._changed.set()

    def begins(self) -> None:
        """An inference begins."""
        self._ended_at = math.inf
        window = self._window
        if window is not None and window.quick and (self._stop_closing() or window.is_long(self._clock())):
            self._read_now()
        self._ledger.begins()

    def ends(self, subject: Subject | None, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        """It ended, and took this long and this much processor time; None: it failed."""
        self._cpu_seconds += cpu_seconds
        self._ledger.ends(subject, seconds)
        self._ended_at = self._clock()
        if self._quick:
            self._close_soon()
        elif self._opened is None:
            self._ledger.lose()

    async def run(self) -> None:
        """Find a meter and read it until cancelled. Raises StartupError where the one that was asked for does not exist."""
        try:
            while True:
                await self._until_changed(_OFFLINE_SECONDS if self._choice is None else 0.0)
                await self._choose()
                while not self._changed.is_set():
                    await self._until_changed(self._pause())
                    if self._choice is not None and self._choice.again(self._clock()):
                        self._changed.set()
                    elif not self._changed.is_set():
                        await self._sample()
        finally:
            self._let_go()

    @property
    def _quick(self) -> bool:
        return self._window is not None and self._window.quick

    def _pause(self) -> float:
        """Seconds to the next reading."""
        if self._opened is None:
            return _LOOK_SECONDS
        pause = self._opened.counter.sample_seconds
        pause = min(pause, _RESTING_LOOK_SECONDS) if self._quick and self.rests() else pause
        return pause * random.uniform(0.5, 1.0)  # noqa: S311  # no secret

    def _close_soon(self) -> None:
        """End the window once the counter shows all that was spent: cut off at once, half a step of each inference would be taken
        for the idle draw."""
        assert self._window is not None
        if self._window.precise_seconds > 0:
            self._closing = asyncio.get_running_loop().call_later(self._window.precise_seconds, self._close)
        else:
            self._read_now()

    def _stop_closing(self) -> bool:
        """False where a window was still to end: what follows an inference too soon shares its window."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.cancel()
        return closing is None

    def _close(self) -> None:
        self._closing = None
        self._read_now()

    async def _until_changed(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _choose(self) -> None:
        """Open the best meter that is left."""
        self._changed.clear()
        self._let_go()
        try:
            found = await self._found()
        except StartupError:
            raise
        except Exception as error:  # a plugin may raise anything
            log.warning("no energy meter: %s", meters.why(error))
            return
        if found is not None:
            self._begin(*found)

    async def _found(self) -> tuple[meters.Opened, float] | None:
        if self._choice is None:
            self._choice = meters.Choice(meters.in_order(self._offers(), self._asked[0]))
        left, site = self._choice.left, self._site()
        self._choice.took(None, self._clock())
        return await aside(lambda: _opened(left, site), _OPEN_SECONDS)

    def _site(self) -> MeterSite:
        _, command, url = self._asked
        return MeterSite(self._root, command, url, self._watts, lambda: self._cpu_seconds, self._clock, self._since_boot)

    def _begin(self, opened: meters.Opened, joules: float) -> None:
        self._opened, self._window = opened, Window(opened.counter, joules, self._now())
        if self._choice is not None:
            self._choice.took(opened.meter, self._clock())
        self._ledger = self._ledger.handed_on(opened.counter.shared, self._window.precise_seconds)
        log.info("energy by %s, within %g%%", opened.label, 100 * opened.counter.uncertainty)

    def _let_go(self) -> None:
        opened, self._opened, self._window = self._opened, None, None
        self._stop_closing()
        if opened is not None:
            self._ledger.lose()
            with contextlib.suppress(Exception):
                opened.counter.close()

    async def _sample(self) -> None:
        """A reading that no inference asked for."""
        opened = self._opened
        if opened is None or self._quick:
            self._read_now()
            return
        try:
            shown = await aside(lambda: (opened.counter.read(), self._now()), _READ_SECONDS)
        except Exception as error:
            self._fell(error)
        else:
            self._settle(*shown)

    def _read_now(self) -> None:
        if self._opened is None:
            return
        try:
            joules = self._opened.counter.read()
        except Exception as error:  # a plugin may raise anything
            self._fell(error)
        else:
            self._settle(joules, self._now())

    def _fell(self, error: Exception) -> None:
        """Go on with the next meter; what this one counted stays."""
        assert self._opened is not None
        broken = self._opened.meter
        log.warning("the %s meter stopped working: %s", broken.name, meters.why(error))
        if self._choice is not None:
            self._choice.fell(broken)
        self._let_go()
        self._changed.set()

    def _settle(self, joules: float, now: Moment) -> None:
        """End the window, unless it is too short for what the counter shows."""
        assert self._opened is not None
        assert self._window is not None
        quiet, disturbed = self.quiet(), self.disturbed()
        closed = self._window.close(joules, now, self._ended_at if self._ledger.touched else None)
        if closed is None:
            self._spoiled = self._spoiled or disturbed
            return
        spoiled, self._spoiled = self._spoiled or disturbed, disturbed
        if closed.lost or (spoiled and self._opened.counter.shared):
            self._ledger.lose()
            return
        if quiet and not self._ledger.touched and closed.seconds >= self._window.precise_seconds:
            self._idle_at = self._clock()
        for subject, billed in self._ledger.close(closed.joules, closed.seconds, quiet=quiet).items():
            self._reports.spend(subject, self._opened.label, billed)

    def _now(self) -> Moment:
        return Moment(self._clock(), self._since_boot())


def _opened(left: Sequence[EnergyMeter], site: MeterSite) -> tuple[meters.Opened, float] | None:
    opened = meters.open_first(left, site)
    return (opened, opened.counter.read()) if opened is not None else None
