"""How much memory processes hold, from /proc; bytes throughout. Leaves limits to ``probe``."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A process's resident memory at one moment, and the part of it that is backed by files (code and libraries)."""

    resident: int
    file_backed: int


def begin() -> Mark:
    """Start to watch this process: give back what the allocator holds free, reset the high-water mark where the kernel lets."""
    trim()
    # Where this is refused the mark stays too high, and the measurement errs on the side of refusing a model.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    now = _status("self")
    return Mark(now["VmRSS"], now["RssFile"])


def added_since(mark: Mark) -> int:
    """The most memory this process has held above ``mark``, without the pages of code that the runtime read from its own files:
    those belong to the runtime, are shared between processes, and go when memory is short."""
    now = _status("self")
    return max(0, now["VmHWM"] - mark.resident - max(0, now["RssFile"] - mark.file_backed))


def trim() -> None:
    """Give free heap memory back to the system (glibc; elsewhere it does nothing)."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


def resident_bytes(pids: Iterable[int | str]) -> int:
    """What the processes hold together, pages they share counted for each; one that has ended counts as nothing."""
    return sum(_resident(pid) for pid in pids)


def _resident(pid: int | str) -> int:
    try:
        return _status(pid)["VmRSS"]
    except (OSError, KeyError):
        return 0


def _status(pid: int | str) -> dict[str, int]:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        rows = (line.split() for line in file)
        return {row[0][:-1]: int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}
