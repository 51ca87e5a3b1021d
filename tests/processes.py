"""What runs on this machine, and what it costs."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def parents() -> dict[int, int]:
    """Process id -> parent's id, of everything that runs and is no zombie."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found[int(entry.name)] = int(parent)
    return found


def children_of(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    return [child for child, parent in parents().items() if parent == pid]


def resident_kib(pid: int) -> int:
    """Memory that a process has now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))


def processor_seconds(*pids: int) -> float:
    """That processes have used, each by itself, without its children."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS
