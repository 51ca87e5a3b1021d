"""How a search's time is shared out among pipelines that train: how long each training may take, and which are worth it.

Decided from the budget, the plans and the number of cores alone, never from the clock: a step's time decides its bytes, and the
same inputs and budget must give the same ones. Keeping to the time is left to ``worker.search``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from edge_compress.domain.artifact import AppliedStep
from edge_compress.domain.plan import Candidate, Plan, distinct

CHEAP_SHARE = 0.2
"""of a budget: until then new candidates that train nothing are begun; those left over come after the trainings"""
TRAINING_SHARE = 0.55
"""of a budget, for trainings; the rest is for what follows them: precisions, quality, timing"""
_WAVE_SECONDS = 600.0
"""a budget that gives every training more than this trains more structures instead"""

Prefix = tuple[AppliedStep, ...]


@dataclass(frozen=True)
class Allotment:
    """``seconds`` for each step that trains, and which trained prefixes there is time for; None: as many as the goals need."""

    seconds: float
    prefixes: tuple[Prefix, ...] | None = None

    def allows(self, prefix: Prefix) -> bool:
        """Whether there is time for it."""
        return self.prefixes is None or prefix in self.prefixes


def allot(plans: Sequence[Plan], budget_seconds: float, cores: int) -> Allotment:
    """Share a model's budget out among the trainings of all its profiles' plans, one core each.

    Every plan gets its most promising one; where there are more than cores, each gets less time. What several plans have in
    common is trained once.
    """
    queues = [trainings(plan.candidates) for plan in plans]
    firsts = distinct(queue[0] for queue in queues if queue)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    wanted = distinct(prefix for prefix in turns if prefix)
    cores, seconds = max(1, cores), TRAINING_SHARE * budget_seconds
    waves = max(1, -(-len(firsts) // cores), int(seconds // _WAVE_SECONDS))
    waves = min(waves, max(1, -(-len(wanted) // cores)))
    return Allotment(seconds / waves, tuple(wanted[: waves * cores]))


def trainings(candidates: Sequence[Candidate]) -> list[Prefix]:
    """The distinct trained prefixes, most promising first: single trainings before double ones; what a strategy proposes first
    before what it proposes next, for it knows best what keeps the quality; then in the order of ``candidates``."""
    first: dict[int, Candidate] = {}
    for at, item in enumerate(candidates):
        if item.trains and all(item.trained != other.trained for other in first.values()):
            first[at] = item
    ordered = sorted(first.items(), key=lambda entry: (entry[1].trainings, _rank(entry[1]), entry[0]))
    return [item.trained for _, item in ordered]


def _rank(candidate: Candidate) -> int:
    return sum(item.rank for item in candidate.made_of if item.trains)
