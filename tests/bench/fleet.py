"""What thousands of connected devices cost one server: ``make bench-fleet``, or ``python -m tests.bench.fleet [--agents N]``.

A real server process and hollow agents in others, each over a connection of its own, on loopback and on the same cores. Memory
for each agent, processor time at rest, how fast an assignment reaches all, and what a kill -9 of the server leads to.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.integration.real_fleet import Crowd, Fleet
from tests.processes import processor_seconds, resident_kib

_PATIENCE_SECONDS = 300.0
_RESTING_SECONDS = 30.0
GOALS = {"memory": 50.0, "cores": 1.0, "fan-out": 3.0}


def until(what: str, condition: Any) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > _PATIENCE_SECONDS:
            raise SystemExit(f"not within {_PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - began


def told(name: str, value: float, goal: float, unit: str) -> None:
    """One figure beside its goal."""
    print(f"{name:44}{value:10.2f} {unit:10} {value / goal:6.2f} of the goal of {goal:g}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--processes", type=int, default=2, help="of the crowd; default %(default)s")
    arguments = parser.parse_args()
    agents = arguments.agents
    with tempfile.TemporaryDirectory() as scratch:
        fleet = Fleet(Path(scratch))
        crowd = None
        try:
            fleet.declare()
            empty = resident_kib(fleet.server.pid)
            more = ("--no-download", "--heartbeat", "30s", "--report", f"{max(1, agents // 100)}s", "--ramp", f"{agents // 400}s")
            crowd = Crowd(fleet, "--agents", str(agents), "--processes", str(arguments.processes), *more)
            joined = until("all connected", lambda: crowd.last()["connected"] == agents)
            print(f"{agents:,} agents in {arguments.processes} processes joined in {joined:.0f} s", flush=True)
            time.sleep(5)
            told("memory of the server for an agent", (resident_kib(fleet.server.pid) - empty) / agents, GOALS["memory"], "KiB")
            before = processor_seconds(fleet.server.pid)
            time.sleep(_RESTING_SECONDS)
            used = (processor_seconds(fleet.server.pid) - before) / _RESTING_SECONDS
            told("cores at rest, nothing assigned", used, GOALS["cores"], "cores")
            fleet.apply("quantize.float16", "{}")
            until("all assigned", lambda: crowd.last()["assigned"] >= agents)
            tally = crowd.last()
            told("first to last assignment", tally["last_assigned"] - tally["first_assigned"], GOALS["fan-out"], "s")
            until("all committed", lambda: crowd.last()["states"] == {"Committed": agents})
            before = processor_seconds(fleet.server.pid)
            time.sleep(_RESTING_SECONDS)
            used = (processor_seconds(fleet.server.pid) - before) / _RESTING_SECONDS
            told("cores with 100 reports a second", used, GOALS["cores"], "cores")
            fleet.server.kill()
            fleet.server.start()
            back = until("all connected again", lambda: crowd.last()["sessions"] >= 2 * agents == 2 * crowd.last()["connected"])
            kept = crowd.last()["states"] == {"Committed": agents}
            print(f"after kill -9 all are back in {back:.0f} s; {'no' if kept else 'A'} assignment lost", flush=True)
        except AssertionError as error:
            logs = sorted((fleet.folder / "server").glob("*.log"))
            raise SystemExit(f"{error}\n{logs[-1].read_text()[-4000:]}") from error
        finally:
            if crowd is not None:
                crowd.stop()
            fleet.stop()


if __name__ == "__main__":
    main()
