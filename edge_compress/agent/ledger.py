"""What inferences cost, from a counter that may cover more than them: windows, the idle draw, bills. Pure.

A window is the time between two readings. In one in which nothing ran, the joules show what the idle device draws; in any other,
what is above that draw was spent by the inferences that ended in it. What could not be metered is owed, and paid at what the same
model costs once it can be. Leaves readings and clocks to ``energy``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from edge_compress.agent.report import Subject

_FEWEST_IDLE, _MOST_IDLE = 3, 31
_DEFICIT_WINDOWS = 20.0
"""how many shortest windows of the idle draw a run of bad luck may cost later bills"""


class Ledger:
    """The account of one counter. ``shared``: it covers more than the model. ``shortest``: of a precise window, in seconds."""

    def __init__(self, shared: bool = False, shortest: float = 0.0) -> None:
        self._shared, self._shortest = shared, shortest
        self._idle: deque[float] = deque(maxlen=_MOST_IDLE)
        self._running = self._touched = False
        self._ran: dict[Subject, float] = {}
        self._owed: dict[Subject, float] = {}
        self._balance = self._seconds = 0.0

    @property
    def touched(self) -> bool:
        """Whether an inference ran in the present window."""
        return self._touched or self._running

    @property
    def idle_watts(self) -> float | None:
        """What the idle device draws, by the median; None: not known yet. A counter of the model alone has no such draw."""
        if not self._shared:
            return 0.0
        return _median(self._idle) if len(self._idle) >= _FEWEST_IDLE else None

    def begins(self) -> None:
        """An inference begins."""
        self._running = True

    def ends(self, subject: Subject | None, seconds: float) -> None:
        """It ended; None: it failed, and nobody is billed for it."""
        self._running, self._touched = False, True
        if subject is not None:
            self._ran[subject] = self._ran.get(subject, 0.0) + seconds

    def lose(self) -> None:
        """The present window cannot be metered: its inferences are owed."""
        for subject, seconds in self._ran.items():
            self._owed[subject] = self._owed.get(subject, 0.0) + seconds
        self._ran, self._touched = {}, False
        self._balance = self._seconds = 0.0

    def handed_on(self, shared: bool, shortest: float) -> Ledger:
        """The account of the next counter, which takes over what is owed."""
        self.lose()
        new = Ledger(shared, shortest)
        new._owed, new._running = self._owed, self._running
        return new

    def close(self, joules: float, seconds: float, *, quiet: bool = True) -> dict[Subject, float]:
        """End a window; returns joules to bill. ``quiet``: nothing else that the agent knows of kept the device busy."""
        if not self.touched:
            if quiet and self._shared and seconds >= self._shortest > 0:
                self._idle.append(joules / seconds)
            return {}
        watts = self.idle_watts
        if watts is None:
            self.lose()
            return {}
        self._touched = False
        self._seconds += seconds
        self._balance = max(self._balance + joules - watts * seconds, -watts * _DEFICIT_WINDOWS * self._shortest)
        return self._bills() if self._ran and self._balance > 0 and self._seconds >= self._shortest else {}

    def _bills(self) -> dict[Subject, float]:
        """The balance, by the seconds that each ran; of what is owed, as many seconds again are paid at the same rate."""
        watts = self._balance / max(sum(self._ran.values()), 1e-9)
        bills = {}
        for subject, ran in self._ran.items():
            paid = min(ran, self._owed.get(subject, 0.0))
            if paid:
                self._owed[subject] -= paid
            bills[subject] = (ran + paid) * watts
        self._ran, self._balance, self._seconds = {}, 0.0, 0.0
        return bills


def _median(values: Collection[float]) -> float:
    """As the statistics module has it, which would cost a device a megabyte."""
    ordered, middle = sorted(values), len(values) // 2
    return (ordered[middle] + ordered[~middle]) / 2
