"""How many devices are where, counted as they move: ten thousand need not be looked at for each scrape.

Where a device is, is decided in ``fleet``.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple


class Place(NamedTuple):
    """Where a device is, and what it runs."""

    profile: str
    state: str
    model: str = ""
    version: str = ""


class Census:
    """Devices by place. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, Place] = {}
        self._counts: Counter[Place] = Counter()

    def note(self, device: str, place: Place | None) -> None:
        """The device is there now; None: it was forgotten."""
        with self._lock:
            before = self._of.get(device)
            if before == place:
                return
            if before is not None:
                self._leave(device, before)
            if place is not None:
                self._of[device] = place
                self._counts[place] += 1

    def counts(self) -> Counter[Place]:
        """Devices in each place where there are any."""
        with self._lock:
            return self._counts.copy()

    def states(self) -> Counter[str]:
        """Devices in each state, of all profiles together."""
        states: Counter[str] = Counter()
        for place, count in self.counts().items():
            states[place.state] += count
        return states

    def _leave(self, device: str, place: Place) -> None:
        del self._of[device]
        self._counts[place] -= 1
        if not self._counts[place]:
            del self._counts[place]
