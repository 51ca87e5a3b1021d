"""What the device has, in all and just now: memory, battery, processor, the time of the day. Reads files and decides nothing.

Sources: proc(5), the kernel's documents cgroup-v2 and sysfs-class-power.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edge_compress.domain.fleet import DeviceFacts

RUNTIMES = ("onnxruntime",)
_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "asimddp"})
"""what Linux calls 8-bit dot products on x86 and ARM"""


_MAINS = ("Mains", "USB", "Wireless")


@dataclass(frozen=True)
class Battery:
    """The emptiest battery that the device itself runs on. ``share``: of its capacity, 0 to 1."""

    share: float
    charging: bool


class Surroundings:
    """``root`` is where the system's files are; tests build their own."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def free_memory(self) -> int | None:
        """Bytes that new processes may take before the system swaps or kills; None where nobody says."""
        known = [_meminfo(self._root).get("MemAvailable")]
        known += [limit - used for limit, used in self._groups()]
        return min((max(0, value) for value in known if value is not None), default=None)

    def battery(self) -> Battery | None:
        """None for a device without one."""
        found = min(self._batteries(), key=lambda one: one.share, default=None)
        return found if found is None or not self._has_mains() else replace(found, charging=True)

    def minute_of_day(self) -> int:
        """0 to 1439, in the device's own time zone."""
        now = time.localtime()
        return now.tm_hour * 60 + now.tm_min

    def facts(self, state: Path) -> DeviceFacts:
        """What the device has; ``state``: the folder that models are kept in."""
        memory = [_meminfo(self._root).get("MemTotal"), *(limit for limit, _ in self._groups())]
        disk = os.statvfs(state)
        return DeviceFacts(
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=min((value for value in memory if value is not None), default=0),
            storage_bytes=disk.f_blocks * disk.f_frsize,
            int8_dot_product=self._dot_product(),
            runtimes=RUNTIMES,
        )

    def _groups(self) -> Iterator[tuple[int, int]]:
        """(limit, used) of the control groups that this process is in and that have a limit. Pages of files that the kernel can
        drop count as unused."""
        with contextlib.suppress(OSError, ValueError):
            line = next(row for row in (self._root / "proc/self/cgroup").read_text().splitlines() if row.startswith("0::"))
            top = self._root / "sys/fs/cgroup"
            folder = top / line[3:].lstrip("/")
            for group in (folder, *(parent for parent in folder.parents if parent == top or top in parent.parents)):
                if (limit := _number(group / "memory.max")) is not None:
                    yield limit, (_number(group / "memory.current") or 0) - _droppable(group)

    def _has_mains(self) -> bool:
        folders = self._root.glob("sys/class/power_supply/*")
        return any(_text(folder / "type").strip() in _MAINS and _text(folder / "online").strip() == "1" for folder in folders)

    def _batteries(self) -> Iterator[Battery]:
        for folder in sorted(self._root.glob("sys/class/power_supply/*")):
            with contextlib.suppress(OSError, ValueError):
                kind, scope = (folder / "type").read_text().strip(), _text(folder / "scope").strip()
                if kind == "Battery" and scope != "Device":  # that is a mouse's or a headset's
                    status = _text(folder / "status").strip()
                    yield Battery(int((folder / "capacity").read_text()) / 100, status in ("Charging", "Full", "Not charging"))

    def _dot_product(self) -> bool | None:
        for line in _text(self._root / "proc/cpuinfo").splitlines():
            name, _, words = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return bool(_DOT_PRODUCTS & set(words.split()))
        return None


def _meminfo(root: Path) -> dict[str, int]:
    rows = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    return {row[0][:-1]: int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def _droppable(group: Path) -> int:
    rows = (line.split() for line in _text(group / "memory.stat").splitlines())
    return next((int(row[1]) for row in rows if row[0] == "inactive_file"), 0)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    """Empty where there is no such file."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
