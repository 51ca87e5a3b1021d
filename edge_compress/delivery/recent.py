"""What devices did in the last minute: the sums of usage now, less what they were then.

``tick`` is called every few seconds by ``overview``, which shows the figures.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

from edge_compress.delivery.totals import Total
from edge_compress.delivery.usage import UsageLedger
from edge_compress.store.interface import UsageTotals

TICK_SECONDS = 10.0
_TICKS = 6
_Key = tuple[str, str, str, str]


class Subject(NamedTuple):
    """Whose figures."""

    profile: str
    model: str
    version: str


class Recent:
    """Sums as they were at the last ticks. Every method may be called from any thread."""

    def __init__(self, ledger: UsageLedger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._ticks: deque[tuple[float, dict[_Key, UsageTotals]]] = deque(maxlen=_TICKS)

    def tick(self) -> None:
        """Remember the sums as they are now."""
        self._ticks.append((self._clock(), self._sums()))

    def usage(self) -> tuple[float, dict[Subject, UsageTotals]]:
        """How many seconds the window has now, and what was done within it; nothing before the first tick."""
        if not self._ticks:
            return 0.0, {}
        began, before = self._ticks[0]
        totals: dict[Subject, Total] = defaultdict(Total)
        for (profile, model, version, cohort), sums in self._sums().items():
            totals[Subject(profile, model, version)].replace(before.get((profile, model, version, cohort)), sums)
        return self._clock() - began, {subject: total.frozen() for subject, total in totals.items()}

    def _sums(self) -> dict[_Key, UsageTotals]:
        return {(one.profile, one.model, one.version, one.cohort): one.totals for one in self._ledger.series()}
