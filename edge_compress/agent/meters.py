"""What inferences cost in energy: a hardware counter where one can be read, else an estimate from processor time, else nothing.

Every meter is a counter of joules that never falls. Leaves to ``report`` how it travels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """A source of joules. ``source`` and ``scope`` are as in EnergyReport."""

    source: str
    scope: str

    def spent(self, cpu_seconds: float) -> float:
        """Joules since the last call, 0 or more; ``cpu_seconds`` is what the model process used meanwhile. Raises OSError."""


@dataclass(frozen=True)
class _Zone:
    """One package of a RAPL counter; it wraps around at ``limit`` microjoules."""

    energy: Path
    limit: int

    def read(self) -> int:
        return int(self.energy.read_text())


class Rapl:
    """Intel and AMD package counters, summed over packages. Raises OSError when none can be read."""

    source, scope = "rapl", "package"

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones = _zones(root)
        self._last = [zone.read() for zone in self._zones]
        if not self._zones:
            raise FileNotFoundError(f"{root} has no package counter")

    def spent(self, cpu_seconds: float) -> float:
        """Joules of the whole package since the last call, whoever spent them."""
        now = [zone.read() for zone in self._zones]
        steps = zip(self._zones, self._last, now, strict=True)
        microjoules = sum(new - old if new >= old else new + zone.limit - old for zone, old, new in steps)
        self._last = now
        return microjoules / 1e6


class Estimate:
    """Processor time times the watts that the profile declares for a busy core."""

    source, scope = "estimate", "process"

    def __init__(self, watts_per_core: float) -> None:
        self._watts = watts_per_core

    def spent(self, cpu_seconds: float) -> float:
        """Joules that ``cpu_seconds`` of one core cost."""
        return max(0.0, cpu_seconds) * self._watts


def choose(watts_per_core: float | None, hardware: Sequence[Callable[[], Meter]] = (Rapl,)) -> Meter | None:
    """The best meter here: the first hardware one that works, else an estimate where watts are declared, else None."""
    for make in hardware:
        with contextlib.suppress(OSError, ValueError):
            return make()
    return Estimate(watts_per_core) if watts_per_core else None


def _zones(root: Path) -> list[_Zone]:
    """Top-level zones only: their sub-zones are contained in them."""
    folders = sorted(path for path in root.glob("*-rapl:*") if path.name.count(":") == 1)
    return [_Zone(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text())) for folder in folders]
