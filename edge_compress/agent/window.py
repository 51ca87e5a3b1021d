"""The time between two readings of a counter that count, and when it may end. Pure: ``ledger`` says what its joules mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_compress.domain.energy import SUSPENDED_SECONDS

if TYPE_CHECKING:
    from edge_compress.plugin import EnergyCounter

_QUICK_SECONDS = 0.01
_LATE_SECONDS = 5.0
"""how much later than twice its time a reading may come and still mean something"""
_PRECISE = 5.0
"""a window of that many of the counter's own intervals is precise"""
_LONG = 10.0
"""in a window of that many of those, what its ends cut off does not matter"""


@dataclass(frozen=True)
class Moment:
    """Seconds of two clocks: one stands still while the device is suspended, one goes on."""

    awake: float
    since_boot: float


@dataclass(frozen=True)
class Closed:
    """A window that ended. ``lost``: its joules mean nothing, for the device slept or the reading came too late."""

    joules: float
    seconds: float
    lost: bool


class Window:
    """The present window of one counter."""

    def __init__(self, counter: EnergyCounter, joules: float, now: Moment) -> None:
        self._counter = counter
        self._joules, self._begin, self._read_at = joules, now, now.awake

    @property
    def quick(self) -> bool:
        """Whether the counter can be read around each inference."""
        return self._counter.resolution_seconds <= _QUICK_SECONDS

    @property
    def precise_seconds(self) -> float:
        """Of the shortest window that is precise."""
        return _PRECISE * self._counter.resolution_seconds

    def is_long(self, now: float) -> bool:
        """Whether it may as well end between two inferences that follow each other at once."""
        return now - self._begin.awake > _LONG * self.precise_seconds

    def close(self, joules: float, now: Moment, ran_until: float | None) -> Closed | None:
        """End it and begin the next; None: it goes on, being too short for what the counter shows.

        ``ran_until``: when its last inference ended, infinite while one runs, None where nothing ran.
        """
        seconds, gained = now.awake - self._begin.awake, joules - self._joules
        asleep = now.since_boot - self._begin.since_boot - seconds > SUSPENDED_SECONDS
        late = now.awake - self._read_at > 2 * self._counter.sample_seconds + _LATE_SECONDS
        self._read_at = now.awake
        if not (asleep or late or self.quick or self._complete(gained, now.awake, ran_until)):
            return None
        self._joules, self._begin = joules, now
        return Closed(gained, seconds, asleep or late)

    def _complete(self, gained: float, now: float, ran_until: float | None) -> bool:
        counter, seconds = self._counter, now - self._begin.awake
        if gained <= 0 or gained < counter.resolution_joules:
            return False
        if ran_until is None:
            return seconds >= self.precise_seconds
        behind = max(counter.resolution_seconds, counter.sample_seconds)  # what it shows may be of that long ago
        return now - ran_until >= behind or seconds >= _LONG * behind
