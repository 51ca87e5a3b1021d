"""What runs on this machine."""

from __future__ import annotations

from pathlib import Path


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
