"""The one place where the parts of an agent are joined, run together and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal

from edge_compress.agent import footprint, report
from edge_compress.agent.energy import Energy
from edge_compress.agent.folder import StateFolder
from edge_compress.agent.install import Install
from edge_compress.agent.journal import Journal
from edge_compress.agent.local import LocalServer
from edge_compress.agent.log import log_as
from edge_compress.agent.machine import Assignment
from edge_compress.agent.preflight import Preflight, Rules
from edge_compress.agent.report import Reports, restore
from edge_compress.agent.session import Callbacks, Session
from edge_compress.agent.setup import Setup, check_address
from edge_compress.agent.slots import Slots
from edge_compress.agent.spawn import Spawned
from edge_compress.agent.surroundings import Surroundings
from edge_compress.agent.traffic import Traffic
from edge_compress.agent.transfer import Transfer
from edge_compress.domain.fleet import DeviceFacts, DeviceState
from edge_compress.domain.window import parse_windows

log = logging.getLogger("edge_compress.agent")

_SAVE_SECONDS = 10.0
"""how often totals are written down while the server is away; a flash memory has only so many writes"""


class App:
    """A running agent."""

    def __init__(self, setup: Setup, folder: StateFolder, spawned: Spawned) -> None:
        """``spawned`` is a model process that has been started ahead."""
        log_as(setup.log_format, setup.name)
        if check_address(setup.server, setup.insecure):
            log.warning("the link to %s is not encrypted (--insecure)", setup.server)
        chance = random.Random()  # noqa: S311  # jitter, not a secret
        journal, slots = Journal(folder.journal), Slots(folder.path)
        self._folder, self._surroundings = folder, Surroundings()
        self._reports = Reports(os.urandom(8).hex(), restore(folder.usage))
        self._energy = Energy(self._reports, (setup.meter, setup.meter_command, setup.meter_url))
        self._energy.quiet = lambda: journal.position.settled or journal.position.waits
        self._energy.disturbed = lambda: journal.position.state is DeviceState.PROBING
        self._traffic = Traffic(slots, self._reports, chance, setup.self_test_rate, self._energy)
        position = journal.position
        self._traffic.begin(position.serving, spawned)
        if position.state is DeviceState.COMMITTED and position.assignment and position.peak_memory_bytes is not None:
            self._traffic.remember_peak(position.assignment, position.peak_memory_bytes)
        callbacks = Callbacks(lambda: journal.position, self._assigned, self._welcomed, self._resident_bytes, self._facts)
        self._session = Session(setup, callbacks, self._reports, chance)
        transfer = Transfer(self._session.channel, chance)
        self._install = Install(self._preflight(setup, slots), journal, transfer, self._traffic, self._session.announce)
        self._traffic.exhausted = self._install.exhausted
        self._local = LocalServer(self._traffic, folder.path)

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Raises StartupError when the server refuses this agent at the first contact."""
        return asyncio.run(self._main())

    async def _main(self) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await self._local.start()
        parts = [self._session.run(), self._install.run(), self._traffic.run(), self._energy.run(), self._save_totals()]
        tasks = [asyncio.create_task(part) for part in parts]
        stopping = asyncio.create_task(_wait_for(stop))
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in tasks if task.done()]
        await self._local.stop()
        await _cancel([*tasks, stopping])
        self._traffic.stop()
        self._save_now()
        for task in failed:
            task.result()
        log.info("stopped")
        return 0

    def _preflight(self, setup: Setup, slots: Slots) -> Preflight:
        windows = parse_windows(setup.maintenance_window, "--maintenance-window")
        rules = Rules(setup.memory_budget, setup.min_battery, windows)
        return Preflight(slots, self._surroundings, rules, self._resident_bytes, self._serving_bytes)

    def _facts(self) -> DeviceFacts:
        return self._surroundings.facts(self._folder.path)

    def _assigned(self, assignment: Assignment) -> None:
        self._install.assign(assignment)

    def _welcomed(self, watts_per_core: float | None) -> None:
        self._energy.declare(watts_per_core)

    def _resident_bytes(self) -> int:
        return footprint.resident_bytes((os.getpid(), *self._traffic.pids, *self._install.pids))

    def _serving_bytes(self) -> int:
        return footprint.resident_bytes(self._traffic.pids)

    async def _save_totals(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            if not self._session.connected:
                self._save_now()

    def _save_now(self) -> None:
        """Measurements are not worth a stop: a full disk only costs those of this boot."""
        with contextlib.suppress(OSError):
            report.save(self._folder.usage, self._reports.waiting())


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
