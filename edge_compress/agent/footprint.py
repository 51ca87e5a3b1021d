"""How much memory processes hold, from /proc; bytes throughout. Leaves limits to ``probe``."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
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


def drop_idle_code() -> None:
    """Let go of library code that has been read so far, most of it for starting only; what is used again comes back by itself.

    Only clean pages of files are touched: they stay in the system's cache, and the process no longer holds them.
    """
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is None:
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in _clean_code():
        madvise(start, end - start, mmap.MADV_DONTNEED)


def _clean_code() -> list[tuple[int, int]]:
    """Address ranges of code that is mapped from files and was never written to."""
    found: list[tuple[int, int]] = []
    code: tuple[int, int] | None = None
    with open("/proc/self/smaps", encoding="ascii", errors="replace") as file:
        for line in file:
            row = line.split()
            if not row[0].endswith(":"):
                start, _, end = row[0].partition("-")
                is_code = row[1] == "r-xp" and len(row) > 5 and row[5].startswith("/")
                code = (int(start, 16), int(end, 16)) if is_code else None
            elif row[0] == "Private_Dirty:" and row[1] == "0" and code is not None:
                found.append(code)
    return found


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
