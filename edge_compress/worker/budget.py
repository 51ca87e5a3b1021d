"""What a model's search may use: its times, and what may be trained how long. Keeping to them is left to ``search``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_compress.domain.allotment import CHEAP_SHARE, Allotment

_TAIL_SHARE, _TAIL_SECONDS = 0.06, 30.0
"""of a budget: kept for the last timings and golden vectors"""
_MOST_OF_IT = 0.9
"""share of its time that must be left for a training to begin in the place of one that failed"""


@dataclass(frozen=True)
class Clock:
    """Monotonic seconds: until when cheap candidates are begun, and when nothing more is made. Infinite without a budget."""

    cheap_until: float = math.inf
    deadline: float = math.inf

    @staticmethod
    def of(started: float, budget_seconds: float) -> Clock:
        """The times of a budget that began to run at ``started``."""
        tail = min(_TAIL_SHARE * budget_seconds, _TAIL_SECONDS)
        return Clock(started + CHEAP_SHARE * budget_seconds, started + budget_seconds - tail)


@dataclass(frozen=True)
class Budget:
    """See the module."""

    clock: Clock
    allotment: Allotment

    def has_room(self, now: float) -> bool:
        """Whether another training that begins at ``now`` (monotonic seconds) comes to its end in time."""
        return now + _MOST_OF_IT * self.allotment.seconds < self.clock.deadline
