"""Many hollow agents in a process, and many such processes. What one agent does is left to ``hollow``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty
from typing import Any

from edge_compress.errors import StartupError
from edge_compress.simulation.hollow import Conduct, Hollow, Tally

_FILES_SPARE = 64
_TELL_SECONDS, _SILENCE_SECONDS = 1.0, 5.0
_TIMES = ("first_assigned", "last_assigned")


@dataclass(frozen=True)
class Crowd:
    """Which agents there are. Each is called ``<prefix>-<number>``; ``ramp``: seconds over which they join."""

    server: str
    conduct: Conduct
    agents: int
    prefix: str = "sim"
    processes: int = 1
    ramp: float = 0.0
    seed: int = 0


def simulate(crowd: Crowd, told: Callable[[dict[str, Any]], bool]) -> None:
    """Run them until ``told``, which hears every second how all of them do, says False, or until SIGINT or SIGTERM. Call it on
    the main thread. Raises StartupError when a process of the crowd ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    parts = [_part(crowd, number) for number in range(crowd.processes)]
    children = [context.Process(target=_run, args=(crowd, *part, queue), daemon=True) for part in parts]
    for child in children:
        child.start()
    seen: dict[int, dict[str, Any]] = {}
    try:
        going = True
        while going:
            try:
                first, tally = queue.get(timeout=_SILENCE_SECONDS)
            except Empty:
                tally, first = None, 0
            if dead := [child for child in children if not child.is_alive()]:
                raise StartupError(f"{len(dead)} of {len(children)} processes of the crowd ended; what they said is above")
            if tally is None:
                continue
            seen[first] = tally
            if len(seen) == len(children):
                going = told(_together(seen.values()))
                seen = {}
    except KeyboardInterrupt:
        pass
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.join(10)


def _part(crowd: Crowd, number: int) -> tuple[int, int]:
    """(first, count) of the agents of a process."""
    each, more = divmod(crowd.agents, crowd.processes)
    return number * each + min(number, more), each + (number < more)


def _together(tallies: Any) -> dict[str, Any]:
    total: Counter[str] = Counter()
    states: Counter[str] = Counter()
    times: list[float] = []
    refusal = ""
    for tally in tallies:
        states.update(tally["states"])
        total.update({key: value for key, value in tally.items() if key not in ("states", "refusal", *_TIMES)})
        refusal = refusal or tally["refusal"]
        times += [tally[key] for key in _TIMES if tally[key]]
    spans = {"first_assigned": min(times, default=0.0), "last_assigned": max(times, default=0.0)}
    return {**total, **spans, "refusal": refusal, "states": {state: count for state, count in sorted(states.items()) if count}}


def _run(crowd: Crowd, first: int, count: int, queue: Any) -> None:
    """One process's share."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
    _allow_files(count)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_crowded(crowd, first, count, queue))


async def _crowded(crowd: Crowd, first: int, count: int, queue: Any) -> None:
    tally = Tally()
    pause = crowd.ramp / max(1, crowd.agents // crowd.processes)

    async def later(number: int) -> None:
        await asyncio.sleep(pause * (number - first))
        await Hollow(f"{crowd.prefix}-{number}", crowd.server, crowd.conduct, tally, crowd.seed).run()

    agents = [asyncio.create_task(later(number)) for number in range(first, first + count)]
    try:
        parent = os.getppid()
        while os.getppid() == parent:  # a crowd whose parent was killed goes, too
            await asyncio.sleep(_TELL_SECONDS)
            for agent in agents:
                if agent.done():
                    agent.result()  # a mistake of ours must not look like a device that is away
            queue.put((first, {**vars(tally), "states": dict(tally.states)}))
    finally:
        for agent in agents:
            agent.cancel()


def _allow_files(agents: int) -> None:
    """Each agent is a socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * agents + _FILES_SPARE
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard))


def as_line(tally: dict[str, Any], *, plain_json: bool) -> str:
    """A tally for people, or for programs."""
    if plain_json:
        return json.dumps(tally, sort_keys=True)
    states = ", ".join(f"{count} {state}" for state, count in tally["states"].items()) or "nothing assigned"
    trouble = f"; {tally['refused']} refused: {tally['refusal']}" if tally["refused"] else ""
    trouble += f"; {tally['broken']} updates broke off" if tally["broken"] else ""
    trouble += f"; {tally['put_off']} downloads put off" if tally["put_off"] else ""
    trouble += f"; {tally['corrupt']} corrupt downloads" if tally["corrupt"] else ""
    return (
        f"{tally['connected']} connected ({tally['sessions']} sessions), {states}; {tally['reports']} reports, "
        f"{tally['downloaded']:,} bytes downloaded{trouble}"
    )


def write_line(line: str) -> None:
    """At once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
