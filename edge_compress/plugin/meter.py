"""What an energy meter is: a counter of joules that says what it covers, how finely and how well. Loaded on devices: light.

Leaves to the agent which meter is taken, when it is read, what of it an idle device would have drawn, and which model that was.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

from edge_compress.domain.energy import SUSPENDED_SECONDS, MeterSite


class EnergyCounter(abc.ABC):
    """A meter that was opened. Every method is called by one thread at a time, ``read`` perhaps by others than ``open``."""

    scope: str = "device"
    """what it covers, in one word: process, package, cpu, gpu, board, device"""
    shared: bool = True
    """whether it covers more than the model: then what the idle device draws is subtracted"""
    resolution_joules: float = 0.0
    """its smallest step"""
    resolution_seconds: float = 1.0
    """how often it has a new figure. One of at most 10 ms, which must be read without waiting, is read around each inference"""
    sample_seconds: float = 1.0
    """it must be read at least this often, or it loses something"""
    uncertainty: float = 0.0
    """how far its joules may be from the truth, as a fraction of them"""

    @abc.abstractmethod
    def read(self) -> float:
        """Joules since it was opened; never falls. Ends within 5 seconds. Raises OSError once it does not work any more."""

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Let go of what it holds; it is not read again."""


class EnergyMeter(abc.ABC):
    """Base of every kind of meter. Registered as an instance, which holds no state: ``open`` makes what counts."""

    name: ClassVar[str]
    """as ``--meter`` says it"""
    source: ClassVar[str]
    """where the figure comes from: rapl, ina, hwmon, battery, nvml, external or estimate"""
    processor: ClassVar[str] = "cpu"
    """whose work it covers; one that does not cover what the model runs on is taken only when it is asked for by name"""

    @abc.abstractmethod
    def open(self, site: MeterSite) -> EnergyCounter:
        """Begin to count. Raises FileNotFoundError where this device has no such meter, another OSError with the reason where it
        has one that cannot be used."""


class PowerIntegral:
    """Joules from a sensor that only knows watts: trapezoids between the moments it is asked at.

    A time that the device was suspended, or in which nobody asked for longer than ``longest`` seconds, counts as nothing: what
    it drew meanwhile is not known.
    """

    def __init__(self, watts: Callable[[], float], site: MeterSite, longest: float) -> None:
        self._watts, self._site, self._longest = watts, site, longest
        self._joules, self._last = 0.0, self._sample()

    def read(self) -> float:
        """Joules so far. Raises what ``watts`` raises."""
        before, now = self._last, self._sample()
        seconds, asleep = now[0] - before[0], (now[1] - before[1]) - (now[0] - before[0])
        if seconds <= self._longest and asleep < SUSPENDED_SECONDS:
            self._joules += max(0.0, seconds * (before[2] + now[2]) / 2)
        self._last = now
        return self._joules

    def _sample(self) -> tuple[float, float, float]:
        watts = self._watts()
        return self._site.clock(), self._site.since_boot(), max(0.0, watts)
