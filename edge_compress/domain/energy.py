"""The device that an energy meter is opened on, as a value. What a meter is, the plugin API says; the agent bills."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SUSPENDED_SECONDS = 0.05
"""the site's two clocks are not read at one moment; they drift apart by this much only when the device was suspended"""


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _nothing() -> float:
    return 0.0


@dataclass(frozen=True)
class MeterSite:
    """The device that a meter is opened on, and what its owner said.

    ``root`` is where the system's files are; tests build their own.
    """

    root: Path = Path("/")
    command: str = ""
    """prints joules or watts; empty: there is none"""
    url: str = ""
    """answers with joules or watts; empty: there is none"""
    watts_per_core: float | None = None
    """of a busy core, as the profile declares"""
    cpu_seconds: Callable[[], float] = _nothing
    """processor time that inferences have used so far"""
    clock: Callable[[], float] = time.monotonic
    """seconds; stands still while the device is suspended"""
    since_boot: Callable[[], float] = _since_boot
    """seconds; goes on while the device is suspended"""
