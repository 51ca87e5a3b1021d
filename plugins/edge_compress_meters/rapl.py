"""Intel's and AMD's own energy counters, as the kernel's powercap framework shows them.

Source: the kernel's documents power/powercap/powercap and admin-guide/abi (sysfs-class-powercap). Since CVE-2020-8694 only root
may read ``energy_uj``.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from edge_compress.plugin import EnergyCounter, EnergyMeter, MeterSite
from edge_compress_meters import sysfs

_LEAST_WRAP_SECONDS = 60.0
"""what ``sample_seconds`` must stay below twice: 2^32 steps of 15 microjoules last that long even at 1 kW"""


@dataclass(frozen=True)
class _Zone:
    """One package; its counter goes to ``limit`` microjoules and then begins at 0 again."""

    energy: Path
    limit: int

    def since(self, old: int, new: int) -> int:
        """Microjoules between two readings that are less than one round apart."""
        return new - old if new >= old else new - old + self.limit


class Rapl(EnergyMeter):
    """Processor packages by Intel's and AMD's RAPL counters. What is within a package, or around it, is left out."""

    name = source = "rapl"

    def open(self, site: MeterSite) -> EnergyCounter:
        """Raises OSError where there is no package counter or this process may not read it."""
        root = site.root / "sys/class/powercap"
        zones = _packages(root)
        if not zones:
            raise FileNotFoundError(errno.ENOENT, "no RAPL package counter", str(root))
        return _Packages(zones)


class _Packages(EnergyCounter):
    scope, shared = "package", True
    # Steps are 15 to 61 microjoules, new figures come each millisecond or so; Intel's own tests found some percent of error.
    resolution_joules, resolution_seconds, uncertainty = 61e-6, 0.001, 0.05
    sample_seconds = _LEAST_WRAP_SECONDS / 2

    def __init__(self, zones: list[_Zone]) -> None:
        self._zones, self._microjoules = zones, 0
        self._last = self._now()

    def read(self) -> float:
        """Joules of all packages, whoever spent them."""
        now = self._now()
        self._microjoules += sum(zone.since(old, new) for zone, old, new in zip(self._zones, self._last, now, strict=True))
        self._last = now
        return self._microjoules / 1e6

    def _now(self) -> list[int]:
        try:
            return [sysfs.number(zone.energy) for zone in self._zones]
        except PermissionError as error:
            all_of_them = Path(error.filename).parents[1] / "intel-rapl:*" / "energy_uj"
            how = f"as root: chmod a+r {all_of_them}, or start the agent with CAP_DAC_READ_SEARCH"
            raise PermissionError(error.errno, f"only root may read it; to allow it, {how}", error.filename) from None


def _packages(root: Path) -> list[_Zone]:
    """Zones named package-…: a core, uncore or dram zone is beneath one, psys is around all, and the memory-mapped interface
    (intel-rapl-mmio) shows the same ones again."""
    found = sorted(folder for folder in root.glob("intel-rapl:*") if sysfs.text(folder / "name").startswith("package"))
    return [_Zone(folder / "energy_uj", sysfs.number(folder / "max_energy_range_uj")) for folder in found]
