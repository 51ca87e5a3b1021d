"""What thousands of connected devices cost one server: ``make bench-fleet``, or ``python -m tests.bench.fleet [--agents N]``.

A real server process and hollow agents in others, each over a connection of its own, on loopback and on the same cores. Memory
for each agent, processor time at rest and under reports, how fast an assignment reaches all, and what a kill -9 leads to.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from edge_compress.client import Client
from tests.integration.real_fleet import Crowd, Fleet
from tests.processes import children_of, processor_seconds, resident_kib

_PATIENCE_SECONDS = 300.0
_RESTING_SECONDS = 20.0
_GRAIN_SECONDS = 0.05
_INSTALL_SECONDS = 30.0
"""what an update takes on a device: none makes its moves all in one moment"""
GOALS = {"memory": 50.0, "cores": 1.0, "fan-out": 3.0}


def until(what: str, condition: Any) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > _PATIENCE_SECONDS:
            raise SystemExit(f"not within {_PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - began


class Samples:
    """What some processes use, looked at many times a second until the end of the block."""

    def __init__(self, **pids: tuple[int, ...]) -> None:
        self._pids, self._over = pids, threading.Event()
        self._seen: list[tuple[float, dict[str, float]]] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Samples:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_GRAIN_SECONDS):
            self._seen.append((time.time(), {name: processor_seconds(*pids) for name, pids in self._pids.items()}))

    def between(self, start: float, end: float) -> dict[str, float]:
        """Processor seconds of each from ``start`` to ``end``, seconds since the epoch."""
        first = max((one for one in self._seen if one[0] <= start), default=self._seen[0])[1]
        last = min((one for one in self._seen if one[0] >= end), default=self._seen[-1])[1]
        return {name: last[name] - first[name] for name in self._pids}


def told(name: str, value: float, goal: float, unit: str) -> None:
    """One figure beside its goal."""
    print(f"{name:44}{value:10.2f} {unit:10} {value / goal:6.2f} of the goal of {goal:g}", flush=True)


def started(fleet: Fleet, agents: int, processes: int) -> Crowd:
    """The crowd, once all of it is connected; every agent reports so seldom that all together do 100 times a second."""
    pace = ("--heartbeat", "30s", "--report", f"{max(1, agents // 100)}s", "--ramp", f"{agents // 400}s")
    size = ("--agents", str(agents), "--processes", str(processes))
    crowd = Crowd(fleet, *size, *pace, "--no-download", "--install", f"{_INSTALL_SECONDS:g}s")
    joined = until("all connected", lambda: crowd.last()["connected"] == agents)
    print(f"{agents:,} agents in {processes} processes joined in {joined:.0f} s", flush=True)
    time.sleep(5)
    return crowd


def cores(fleet: Fleet, what: str) -> None:
    """What the server uses while things stay as they are."""
    before = processor_seconds(fleet.server.pid)
    time.sleep(_RESTING_SECONDS)
    told(f"cores {what}", (processor_seconds(fleet.server.pid) - before) / _RESTING_SECONDS, GOALS["cores"], "cores")


def fan_out(fleet: Fleet, crowd: Crowd, agents: int) -> None:
    """One assignment for all, until every agent has carried it out and the server knows."""
    with Samples(server=(fleet.server.pid,), crowd=tuple(children_of(crowd.process.pid))) as samples:
        fleet.apply("quantize.float16", "{}")
        until("all assigned", lambda: crowd.last()["assigned"] >= agents)
    first, last = crowd.last()["first_assigned"], crowd.last()["last_assigned"]
    told("first to last assignment", last - first, GOALS["fan-out"], "s")
    used = samples.between(first, last)
    print(f"  meanwhile the server used {used['server']:.1f} CPU s, the crowd {used['crowd']:.1f}", flush=True)
    with Client(fleet.server.address) as client:
        until("completed", lambda: client.rollout("digits").status.state == "Completed")
        began = client.rollout("digits").status.began_at
    print(f"  the last one had it {last - began:.1f} s after the rollout began", flush=True)
    until("all committed", lambda: crowd.last()["states"] == {"Committed": agents})
    time.sleep(5)


def reporting(fleet: Fleet) -> None:
    """100 batches of one report a second, then others with batches of 100 beside them."""
    cores(fleet, "with 100 batches of 1 report a second")
    for agents in (1, 100):
        more = ("--agents", str(agents), "--no-download", "--install", "0s", "--report", "1s", "--batch", "100")
        crowd = Crowd(fleet, *more, name=f"batches-{agents}")
        try:
            until("reporting", lambda crowd=crowd, agents=agents: crowd.last()["states"] == {"Committed": agents})
            time.sleep(5)
            cores(fleet, f"  and {agents} of 100 reports")
        finally:
            crowd.stop()


def killed(fleet: Fleet, crowd: Crowd, agents: int) -> None:
    """What a kill -9 of the server leads to."""
    fleet.server.kill()
    fleet.server.start()
    back = until("all connected again", lambda: crowd.last()["sessions"] >= 2 * agents == 2 * crowd.last()["connected"])
    kept = crowd.last()["states"] == {"Committed": agents}
    print(f"after kill -9 all are back in {back:.0f} s; {'no' if kept else 'A'} assignment lost", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--processes", type=int, default=2, help="of the crowd; default %(default)s")
    arguments = parser.parse_args()
    agents = arguments.agents
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        fleet = Fleet(Path(scratch))
        stack.callback(fleet.stop)
        try:
            fleet.declare()
            empty = resident_kib(fleet.server.pid)
            crowd = started(fleet, agents, arguments.processes)
            stack.callback(crowd.stop)
            told("memory of the server for an agent", (resident_kib(fleet.server.pid) - empty) / agents, GOALS["memory"], "KiB")
            cores(fleet, "at rest, nothing assigned")
            fan_out(fleet, crowd, agents)
            reporting(fleet)
            killed(fleet, crowd, agents)
        except AssertionError as error:
            logs = sorted((fleet.folder / "server").glob("*.log"))
            raise SystemExit(f"{error}\n{logs[-1].read_text()[-4000:]}") from error


if __name__ == "__main__":
    main()
