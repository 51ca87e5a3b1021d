"""How a search's time is shared out among pipelines that train: how long each training may take, and which are worth it.

Decided from the budget, the plans, the number of cores and the machine's pace alone, never from the clock: a step's time
decides its bytes, and the same inputs and budget must give the same ones. Keeping to the time is left to ``worker.search``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from edge_compress.domain.plan import Plan, Prefix, distinct, favourites, trainings

CHEAP_SHARE = 0.2
"""of a budget: until then new candidates that train nothing are begun; those left over come after the trainings"""
TRAINING_SHARE = 0.7
"""of a budget, for trainings; the rest is for what follows them: precisions, quality, timing"""
_WAVE_SECONDS = 600.0
"""a budget that gives every training more than this trains more structures instead"""


@dataclass(frozen=True)
class Allotment:
    """``seconds`` for each step that trains, and which trained prefixes there is time for; None: as many as the goals need.

    ``pace``: multiply-accumulates of training a second and thread that were measured; 0: a nominal one counts.
    """

    seconds: float
    prefixes: tuple[Prefix, ...] | None = None
    pace: float = 0.0

    def allows(self, prefix: Prefix) -> bool:
        """Whether there is time for it."""
        return self.prefixes is None or prefix in self.prefixes


def allot(plans: Sequence[Plan], budget_seconds: float, cores: int) -> Allotment:
    """Share a model's budget out among the trainings of all its profiles' plans, one core each.

    Every plan gets one of its most promising ones, and as few as that takes, since half the time trains less than half as well;
    where there are more than cores, each gets less. What several plans have in common is trained once.
    """
    queues = [trainings(plan.candidates) for plan in plans]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    firsts = _few_for_all([favourites(plan.candidates) for plan in plans], distinct(queue[0] for queue in queues if queue))
    wanted = distinct([*firsts, *(prefix for prefix in turns if prefix)])
    cores, seconds = max(1, cores), TRAINING_SHARE * budget_seconds
    waves = max(1, -(-len(firsts) // cores), int(seconds // _WAVE_SECONDS))
    waves = min(waves, max(1, -(-len(wanted) // cores)))
    return Allotment(seconds / waves, tuple(wanted[: waves * cores]))


def _few_for_all(favourites: Sequence[Sequence[Prefix]], preferred: Sequence[Prefix]) -> list[Prefix]:
    """A prefix of each list, few in all: again and again what most of the lists hold that have none yet; of those that are in
    equally many what comes first in ``preferred``, then in the lists."""
    left, chosen = [item for item in favourites if item], list[Prefix]()
    every = distinct([*preferred, *itertools.chain.from_iterable(favourites)])
    while left:
        best = max(every, key=lambda prefix: sum(prefix in item for item in left))
        chosen.append(best)
        left = [item for item in left if best not in item]
    return chosen
