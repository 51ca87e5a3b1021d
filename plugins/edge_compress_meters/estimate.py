"""No meter at all: processor time times what the profile declares that a busy core draws."""

from __future__ import annotations

import errno

from edge_compress.plugin import EnergyCounter, EnergyMeter, MeterSite


class Estimate(EnergyMeter):
    """Processor time of the model times the watts that its profile declares for a busy core."""

    name = source = "estimate"

    def open(self, site: MeterSite) -> EnergyCounter:
        """Raises OSError where the profile declares no watts."""
        if not site.watts_per_core:
            raise FileNotFoundError(errno.ENOENT, "the profile declares no compute.watts_per_core")
        return _Declared(site, site.watts_per_core)


class _Declared(EnergyCounter):
    scope, shared = "process", False
    # The watts are one figure for every kind of work and every frequency: half as much or half as much again is usual.
    resolution_seconds, sample_seconds, uncertainty = 0.0, 3600.0, 0.5

    def __init__(self, site: MeterSite, watts: float) -> None:
        self._site, self._watts, self._begin = site, watts, site.cpu_seconds()

    def read(self) -> float:
        """Joules that the model's processor time is worth."""
        return max(0.0, self._site.cpu_seconds() - self._begin) * self._watts
