"""The last hour of every device, minute by minute: mean latency and energy of an inference, for whoever describes the device.

In memory only, and bounded: two numbers of four bytes a minute, about 900 bytes a device with all that holds them, however often
it reports. It begins anew with the server. Sums that outlive it are ``usage``'s business.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable

from edge_compress.delivery.totals import best_meter
from edge_compress.domain.overview import HistoryPoint
from edge_compress.store.interface import UsageTotals

_MINUTE = 60.0
_MINUTES = 60
_NOTHING = UsageTotals()


class Histories:
    """Histories by device. Any thread may call every method. ``clock`` must not jump, ``wall`` tells the time of day."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._lock = threading.Lock()
        self._hours: dict[str, _Hour] = {}

    def add(self, device: str, old: UsageTotals | None, new: UsageTotals) -> None:
        """The totals of one of a device's boots rose."""
        before, meter = old or _NOTHING, best_meter(new)
        inferences = sum(new.inferences.values()) - sum(before.inferences.values())
        joules = new.energy[meter] - before.energy.get(meter, 0.0) if meter else math.nan
        with self._lock:
            hour = self._hours.get(device)
            if hour is None:
                hour = self._hours[device] = _Hour(self._minute())
            hour.advance(self._minute())
            hour.add(inferences, new.duration_sum - before.duration_sum, joules)

    def points(self, device: str) -> tuple[HistoryPoint, ...]:
        """The last hour, oldest first; empty for a device that reported nothing since the server began."""
        with self._lock:
            hour = self._hours.get(device)
            if hour is None:
                return ()
            hour.advance(self._minute())
            figures = hour.figures()
        ends = self._wall()
        first = ends - _MINUTE * (len(figures) - 1)
        return tuple(
            HistoryPoint(first + _MINUTE * index, _known(seconds), _known(joules))
            for index, (seconds, joules) in enumerate(figures)
        )

    def forget(self, device: str) -> None:
        """Drop a device."""
        with self._lock:
            self._hours.pop(device, None)

    def _minute(self) -> int:
        return int(self._clock() // _MINUTE)


class _Hour:
    """A ring of minutes, each at its number modulo 60, and the sums of the one that is not over."""

    __slots__ = ("_energy", "_inferences", "_joules", "_latency", "_minute", "_seconds")

    def __init__(self, minute: int) -> None:
        self._minute = minute
        self._latency = array("f", [math.nan]) * _MINUTES
        self._energy = array("f", [math.nan]) * _MINUTES
        self._inferences, self._seconds, self._joules = 0, 0.0, 0.0

    def add(self, inferences: int, seconds: float, joules: float) -> None:
        """More was done in this minute."""
        self._inferences += inferences
        self._seconds += seconds
        self._joules += joules

    def advance(self, minute: int) -> None:
        """Go on to a later minute; those in between were idle."""
        if minute <= self._minute:
            return
        self._put(self._minute, *self._means())
        for idle in range(max(self._minute + 1, minute - _MINUTES + 1), minute):
            self._put(idle, math.nan, math.nan)
        self._minute = minute
        self._inferences, self._seconds, self._joules = 0, 0.0, 0.0

    def figures(self) -> list[tuple[float, float]]:
        """Seconds and joules of an inference, minute by minute, this one last; NaN where nothing is known."""
        over = [minute % _MINUTES for minute in range(self._minute - _MINUTES + 1, self._minute)]
        return [*((self._latency[at], self._energy[at]) for at in over), self._means()]

    def _means(self) -> tuple[float, float]:
        if self._inferences <= 0:
            return math.nan, math.nan
        return self._seconds / self._inferences, self._joules / self._inferences

    def _put(self, minute: int, seconds: float, joules: float) -> None:
        self._latency[minute % _MINUTES], self._energy[minute % _MINUTES] = seconds, joules


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
