"""Which energy meter a device uses: the plugins' offers in order, the first that opens. ``energy`` reads it and bills."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_compress.domain.energy import MeterSite
from edge_compress.errors import StartupError

if TYPE_CHECKING:
    from edge_compress.plugin import EnergyCounter, EnergyMeter

log = logging.getLogger("edge_compress.agent")

HOOK = "edge_compress_register_energy_meters"
AUTO = "auto"
_ORDER = ("rapl", "ina", "hwmon", "battery", "nvml", "external", "estimate")
AGAIN_SECONDS = 1800.0
"""after which a meter that stopped working is tried again: a plug that lost its link, a battery that was charged"""
_RUNS_ON = "cpu"
"""what the model process computes on: a meter of something else would show next to nothing"""


@dataclass(frozen=True)
class Opened:
    """A meter that counts."""

    meter: EnergyMeter
    counter: EnergyCounter

    @property
    def label(self) -> str:
        """``source/scope``, as reports say it."""
        return f"{self.meter.source}/{self.counter.scope}"


def in_order(offers: Iterable[EnergyMeter], wanted: str = AUTO) -> list[EnergyMeter]:
    """Those to try, the best source first; ``wanted``: only the one of that name. Raises StartupError where there is none."""
    known: dict[str, EnergyMeter] = {}
    for meter in offers:
        if meter.source not in _ORDER or meter.name in known:
            log.warning("a meter called %r is left out: its source is unknown or its name is taken", meter.name)
            continue
        known[meter.name] = meter
    if wanted == AUTO:
        fitting = [meter for meter in known.values() if meter.processor == _RUNS_ON]
        return sorted(fitting, key=lambda meter: (_ORDER.index(meter.source), meter.name))
    if wanted not in known:
        raise StartupError(f"--meter {wanted}: there is no such meter; use auto or one of {', '.join(sorted(known))}")
    return [known[wanted]]


class Choice:
    """Which of the ``meters`` may be tried now: one that stopped working is left out, and given another chance after a while."""

    def __init__(self, meters: Sequence[EnergyMeter]) -> None:
        self._meters = meters
        self._fallen: list[EnergyMeter] = []
        self._best_once = self._now = len(meters)
        self._since = 0.0

    @property
    def left(self) -> list[EnergyMeter]:
        """Those to try, in order."""
        return [meter for meter in self._meters if meter not in self._fallen]

    def took(self, meter: EnergyMeter | None, now: float) -> None:
        """This one is used from ``now`` on; None: no meter is."""
        self._now = len(self._meters) if meter is None else self._meters.index(meter)
        self._best_once, self._since = min(self._best_once, self._now), now

    def fell(self, meter: EnergyMeter) -> None:
        """It stopped working."""
        self._fallen.append(meter)

    def again(self, now: float) -> bool:
        """Whether it is time to try all of them again, because a better one than the present has worked before."""
        due = self._now > self._best_once and now - self._since >= AGAIN_SECONDS
        if due:
            self._fallen.clear()
        return due


def open_first(meters: Sequence[EnergyMeter], site: MeterSite) -> Opened | None:
    """The first of ``meters`` that counts here; None: none does. What an owner can do something about is logged."""
    for meter in meters:
        try:
            return Opened(meter, meter.open(site))
        except Exception as error:  # a plugin may raise anything
            absent = isinstance(error, FileNotFoundError) and len(meters) > 1
            log.log(logging.DEBUG if absent else logging.WARNING, "no %s meter: %s", meter.name, why(error))
    return None


def why(error: Exception) -> str:
    """A meter's failure in words, with the file where there is one."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
