"""Runs a plan's candidates for one pair, best first: single steps, then several together, then what trains, then without steps
that do not help; until nothing promises more or the budget ends.

Making and measuring one candidate is left to ``candidates``, what is promising to ``domain.outlook``, how a budget is shared out
to ``domain.allotment``, what wins to ``domain.choice``.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from edge_compress.domain.dials import set_for_training, settings_between
from edge_compress.domain.outlook import Outlook, Seen
from edge_compress.domain.plan import Candidate, Plan, Prefix, distinct, favourites, trainings
from edge_compress.errors import Cancelled
from edge_compress.worker.budget import Budget
from edge_compress.worker.candidates import CandidateRunner, Gate, Tried, open_gate
from edge_compress.worker.inputs import PairRequest
from edge_compress.worker.remembering import NOT_NEEDED, OUT_OF_TIME, UNASKED
from edge_compress.worker.steps import Run
from edge_compress.worker.stopping import When, either

_DEAR_EVALUATION_SECONDS = 20.0
"""quality of a file that has lost already is measured for the record only where it takes less than this"""
_LESS_PROMISING = "others of several steps promise more"
_PUT_OFF = "put off until something is trained"
_JOINT_TRIED = 4
_MOST_UNASKED = 4
"""trainings where a goal is missed and there is no budget"""
_MOST_UNDONE = 3
_ABOUT_EQUAL, _MOST_KEPT = 0.1, 3
"""share of the best figure by which pipelines may be worse and still be made again as near as can be to what devices run, and how
many are: of those that prove equal the smallest update wins"""
_MOST_TURNS = 2
"""times that dials are set anew, as many of them at a time as there are cores"""
_NEAR, _MOST_SETTLED = 0.25, 5
"""share of the best figure by which another may be worse and still be timed again beside it, and how many are"""

Instead = Callable[[], Candidate | None]
"""What to try in the place of a candidate that failed; None: nothing. Called from several threads at once"""


def _nothing() -> None:
    return None


class Search:
    """One pair's search."""

    def __init__(self, request: PairRequest, runner: CandidateRunner, cores: int, run: Run, budget: Budget) -> None:
        self._request, self._runner, self._cores, self._run = request, runner, cores, run
        self._budget, self._clock, self._allotment = budget, budget.clock, budget.allotment
        self._found: list[Tried] = []
        self._kept: list[Candidate] = []
        self._done = self._total = 0
        self._choosing = threading.Lock()

    def tried(self, plan: Plan) -> list[Tried]:
        """Every candidate of the plan with what became of it, and the leaner pipelines that were tried beside the best."""
        self._total = max(1, len(plan.candidates))
        cheap = [item for item in plan.candidates if not item.trains]
        dear = [item for item in plan.candidates if item.trains]
        if self._request.recipe is not None:
            self._try(plan.candidates, at_least=1)
            return self._found
        single = [item for item in cheap if not item.joint]
        self._try(single, until=self._clock.cheap_until if dear else math.inf, at_least=1)
        self._try_joint([item for item in cheap if item.joint])
        self._try_between()
        self._try_trained(dear)
        self._try_put_off()
        self._try_leaner()
        self._try_kept()
        self._settle()
        return self._found

    def _try_joint(self, candidates: Sequence[Candidate]) -> None:
        """Of pipelines of several steps those that single steps let hope for, by what these were measured to do."""
        outlook = self._outlook()
        whys = [
            "" if self._late() else self._broken(item) or outlook.lost_cause(item) or outlook.cannot_beat(item)
            for item in candidates
        ]
        hopeful = sorted((item for item, why in zip(candidates, whys, strict=True) if not why), key=outlook.weight)
        self._found += [Tried(item, "skipped", why) for item, why in zip(candidates, whys, strict=True) if why]
        most = len(hopeful) if self._late() else _JOINT_TRIED
        self._found += [Tried(item, "skipped", _LESS_PROMISING) for item in hopeful[most:]]
        self._try(hopeful[:most], until=self._clock.cheap_until)

    def _try_between(self) -> None:
        """Other settings of what was tried, as far as the allowed drop goes."""
        for _ in range(_MOST_TURNS):
            fresh = [item for item in settings_between(self._outlook(), self._cores) if self._is_new(item)]
            if not fresh or self._late():
                return
            self._try(fresh)

    def _try_trained(self, dear: Sequence[Candidate]) -> None:
        """Train only where the cheap ones miss a goal or the user gave a budget for more; as many at a time as there are cores,
        and then what follows each."""
        every, asked = trainings(dear), self._allotment.prefixes is not None
        waiting = [item for item in every if self._allotment.allows(item)] if asked else every[:_MOST_UNASKED]
        others = [item for item in every if item not in waiting]
        spare = distinct([*(item for item in favourites(dear) if item in others), *others]) if asked else []
        while waiting:
            if not asked and self._outlook().best is not None:
                self._found += [Tried(item, "refused", NOT_NEEDED) for item in dear if item.trained in [*waiting, *others]]
                return
            first, following = self._next_wave(waiting, dear)
            needed = not any(item.state == "measured" for item in self._found)
            self._try(first, at_least=int(needed), instead=lambda: self._instead(spare, dear))
            self._try_followers(following)
            self._try_between()
        granted = [item for item in others if self._was_made(item)]
        self._try_followers([item for item in dear if item.trained in granted and self._is_new(item)])
        why = self._no_time() if asked else UNASKED
        self._found += [Tried(item, "skipped", why) for item in dear if item.trained in others and self._is_new(item)]

    def _next_wave(self, waiting: list[Prefix], dear: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """What is trained next, taken off ``waiting``: one pipeline of each training, the shortest, and what else follows them.
        What promises nothing is noted on the way."""
        outlook = self._outlook()
        first: list[Candidate] = []
        following: list[Candidate] = []
        while waiting and len(first) < self._cores:
            members = _members(waiting.pop(0), dear, outlook)
            whys = [self._why_not(item, outlook) for item in members]
            if all(whys):
                self._found += [Tried(item, "skipped", why) for item, why in zip(members, whys, strict=True)]
                continue
            first.append(members[0])  # even where it cannot win: it tells what the training did
            following += [item for item, why in zip(members[1:], whys[1:], strict=True) if not why]
            self._found += [Tried(item, "skipped", why) for item, why in zip(members[1:], whys[1:], strict=True) if why]
        return first, following

    def _instead(self, spare: list[Prefix], dear: Sequence[Candidate]) -> Candidate | None:
        """What is trained in the place of a training that failed, taken off ``spare``; None: nothing that promises anything, or
        too little time."""
        outlook = self._outlook()
        with self._choosing:
            while spare and self._budget.has_room(time.monotonic()):
                members = _members(spare.pop(0), dear, outlook)
                if not all(self._why_not(item, outlook) for item in members):
                    return members[0]
        return None

    def _try_followers(self, candidates: Sequence[Candidate]) -> None:
        """What follows a training, where the training kept the quality."""
        outlook = self._outlook()
        whys = [self._broken(item) or outlook.lost_cause(item) for item in candidates]
        self._found += [Tried(item, "skipped", why) for item, why in zip(candidates, whys, strict=True) if why]
        self._try([item for item, why in zip(candidates, whys, strict=True) if not why])

    def _broken(self, candidate: Candidate) -> str:
        """Why a pipeline cannot be made: one that it begins with could not. Empty: it may."""
        failed = [item for item in self._found if item.state == "failed" and item.candidate.steps]
        begins = next((item for item in failed if candidate.steps[: len(item.candidate.steps)] == item.candidate.steps), None)
        return "" if begins is None else f"{begins.candidate.steps[-1].strategy} alone failed: {begins.why}"

    def _why_not(self, candidate: Candidate, outlook: Outlook) -> str:
        """Why a candidate that trains is not tried; empty: it is."""
        return "" if self._late() else outlook.cannot_meet(candidate) or outlook.cannot_beat(candidate)

    def _no_time(self) -> str:
        count = len(self._allotment.prefixes or ())
        return f"the budget is for {count} trainings of {self._allotment.seconds:.0f} s, and others promise more"

    def _late(self) -> bool:
        """Whether the budget has ended: what is in the cache is still taken, and for the rest that is the reason."""
        return time.monotonic() > self._clock.deadline

    def _try_put_off(self) -> None:
        """What was put off so that training could begin gets its turn, while there is time."""
        waiting = [item for item in self._found if item.why == _PUT_OFF]
        self._found = [item for item in self._found if item.why != _PUT_OFF]
        self._try([item.candidate for item in waiting])

    def _try_leaner(self) -> None:
        """The best pipeline without each of its steps, where nobody tried that yet: a step that does not help is left out."""
        for _ in range(_MOST_UNDONE):
            best = self._outlook().best
            parts = [] if best is None else [best.candidate.without(at) for at in range(len(best.candidate.made_of))]
            fresh = [item for item in parts if self._is_quick(item)]
            if not fresh or self._late():
                return
            self._try(fresh)

    def _try_kept(self) -> None:
        """What comes near the best once more, as near to what devices run as its strategies can keep it: that is a smaller update
        to send. Those first that are sent in the fewest bytes as they are."""
        previous = self._request.previous
        if not previous or self._late():
            return
        near = self._outlook().contenders(_ABOUT_EQUAL, len(self._found))
        files = {item.measured.sha256: item for item in reversed(near)}.values()
        ordered = sorted(files, key=lambda item: item.measured.update_bytes or 0)
        kept = [item.candidate.keeping(previous) for item in ordered]
        self._kept = [item for item in kept if item is not None and self._is_new(item)][:_MOST_KEPT]
        self._try(self._kept)

    def _settle(self) -> None:
        """Time those that came near the best once more, side by side: measured in different rounds, noise would choose."""
        contenders = {id(item.candidate) for item in self._outlook().contenders(_NEAR, _MOST_SETTLED)}
        contenders |= {id(item) for item in self._kept}
        again = [item for item in self._found if id(item.candidate) in contenders and item.state == "measured"]
        if len(again) < 2 or self._request.objective == "size":
            return
        settled = {id(item.candidate): item for item in self._runner.settled(again, Run(self._run.cancelled))}
        self._found = [settled.get(id(item.candidate), item) for item in self._found]

    def _is_quick(self, candidate: Candidate) -> bool:
        """Whether a pipeline was not looked at yet and trains nothing that was not trained already."""
        return self._is_new(candidate) and (not candidate.trains or self._was_made(candidate.trained))

    def _is_new(self, candidate: Candidate) -> bool:
        return all(item.candidate.steps != candidate.steps for item in self._found)

    def _was_made(self, trained: Prefix) -> bool:
        return any(item.candidate.trained == trained and item.state == "measured" for item in self._found)

    def _outlook(self) -> Outlook:
        """What all that was measured until now lets expect."""
        profile, costs = self._request.profile.spec, self._runner.costs
        ran = [item for item in self._found if item.state == "measured"]
        seen = [Seen(item.candidate, costs.reported(item.measurement, item.candidate.steps)) for item in ran]
        original = costs.reported(self._runner.float_measurement(Run(self._run.cancelled)))
        return Outlook(seen, original, profile, self._request.model.spec.quality.max_drop, self._request.objective)

    def _try(
        self, candidates: Sequence[Candidate], *, until: float = math.inf, at_least: int = 0, instead: Instead = _nothing
    ) -> None:
        """Make, judge and time candidates together; and what ``instead`` gives for one that failed."""
        if not candidates:
            return
        made = self._made(candidates, until, at_least, instead)
        self._run.progress(self._fraction(), "measuring latency and memory")
        self._found += self._runner.measure(made, self._request.model.spec.quality.max_drop, Run(self._run.cancelled))

    def _made(self, candidates: Sequence[Candidate], until: float, at_least: int, instead: Instead) -> list[Tried]:
        """Make and judge candidates in their order, as many at a time as there are cores. At the deadline those that run are
        stopped, once ``at_least`` so many were made."""
        made = 0
        lock = threading.Lock()
        cancelled, deadline = self._run.cancelled, self._clock.deadline
        late = When(lambda: time.monotonic() > deadline and made >= at_least)
        self._run.progress(self._fraction(), "measuring the original")
        self._runner.baseline(Run(cancelled))
        gate = self._gate()

        def attempt(candidate: Candidate) -> Tried:
            nonlocal made
            in_time = not late.is_set()
            if in_time and time.monotonic() > until and made >= at_least:
                return Tried(candidate, "skipped", _PUT_OFF)
            try:
                tried = self._runner.attempt(candidate, Run(either(cancelled, late)), gate)
            except Cancelled:
                if cancelled.is_set():
                    raise
                return Tried(candidate, "skipped", f"{OUT_OF_TIME} {'while it was made' if in_time else 'before its turn'}")
            with lock:
                made, self._done = made + (tried.state == "measured"), self._done + 1
                self._run.progress(self._fraction(), f"tried {self._done} of {max(self._total, self._done)} candidates")
            return tried

        def attempts(candidate: Candidate) -> list[Tried]:
            tried = [attempt(candidate)]
            while tried[-1].state == "failed" and (other := instead()) is not None:
                tried.append(attempt(other))
            return tried

        with ThreadPoolExecutor(max_workers=self._cores, thread_name_prefix="candidate") as pool:
            waiting = [pool.submit(attempts, candidate) for candidate in candidates]
            return [tried for future in waiting for tried in future.result()]

    def _gate(self) -> Gate:
        """Stops a candidate whose file is too large to win before its quality is measured, where that takes long."""
        if self._runner.evaluation_seconds < _DEAR_EVALUATION_SECONDS:
            return open_gate
        return self._outlook().beaten

    def _fraction(self) -> float:
        return 0.8 * self._done / max(self._total, self._done)


def _members(prefix: Prefix, dear: Sequence[Candidate], outlook: Outlook) -> list[Candidate]:
    """The pipelines that begin with a training, the shortest first, its dials set by what is known."""
    members = sorted((item for item in dear if item.trained == prefix), key=lambda item: len(item.steps))
    return set_for_training(prefix, members, outlook)
