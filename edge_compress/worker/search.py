"""Runs a plan's candidates for one pair, cheap ones first, until the goals are met or the budget ends.

Making and measuring one candidate is left to ``candidates``, what wins to ``domain.choice``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from edge_compress.domain.cost import excesses, on_device
from edge_compress.domain.plan import Candidate, Plan
from edge_compress.errors import Cancelled
from edge_compress.worker.candidates import CandidateRunner, Tried
from edge_compress.worker.inputs import PairRequest
from edge_compress.worker.remembering import NOT_NEEDED
from edge_compress.worker.steps import Run
from edge_compress.worker.stopping import When, either


class Search:
    """One pair's search. ``deadline``: monotonic seconds at which the budget ends; None: no budget."""

    def __init__(self, request: PairRequest, runner: CandidateRunner, cores: int, run: Run, deadline: float | None) -> None:
        self._request, self._runner, self._cores, self._run, self._deadline = request, runner, cores, run, deadline

    def tried(self, plan: Plan) -> list[Tried]:
        """Try the cheap candidates; those that train only where the cheap ones miss a goal, the user gave a budget for more, or
        a recipe names them."""
        cheap = [item for item in plan.candidates if not item.trains]
        dear = [item for item in plan.candidates if item.trains]
        tried = self._measured(self._try_all(cheap))
        if not dear:
            return tried
        if self._request.recipe is None and self._deadline is None and self._any_good(tried):
            return tried + [Tried(item, state="refused", why=NOT_NEEDED) for item in dear]
        needed = not any(item.state == "measured" for item in tried)
        return tried + self._measured(self._try_all(dear, int(needed)))

    def _measured(self, tried: list[Tried]) -> list[Tried]:
        self._run.progress(0.82, "measuring latency and memory")
        return self._runner.measure(tried, self._request.model.spec.quality.max_drop, Run(self._run.cancelled))

    def _any_good(self, tried: Sequence[Tried]) -> bool:
        profile, max_drop = self._request.profile.spec, self._request.model.spec.quality.max_drop
        judged = [on_device(item.measurement, self._runner.facts, profile) for item in tried if item.state == "measured"]
        return any(item.latency is not None and not excesses(item, profile, max_drop) for item in judged)

    def _try_all(self, candidates: Sequence[Candidate], at_least: int = 1) -> list[Tried]:
        """Make and judge candidates in their order, as many at a time as there are cores. At the deadline those that run are
        stopped, once ``at_least`` so many were made."""
        done = made = 0
        lock = threading.Lock()
        cancelled, deadline = self._run.cancelled, self._deadline
        late = When(lambda: deadline is not None and time.monotonic() > deadline and made >= at_least)
        self._run.progress(0.0, "measuring the original")

        def attempt(candidate: Candidate) -> Tried:
            nonlocal done, made
            if late.is_set():
                return Tried(candidate, state="skipped", why="the time budget ended before its turn")
            try:
                tried = self._runner.attempt(candidate, Run(either(cancelled, late)))
            except Cancelled:
                if cancelled.is_set():
                    raise
                return Tried(candidate, state="skipped", why="the time budget ended while it was made")
            with lock:
                done, made = done + 1, made + (tried.state == "measured")
                self._run.progress(0.8 * done / len(candidates), f"tried {done} of {len(candidates)} candidates")
            return tried

        self._runner.baseline(Run(cancelled))
        with ThreadPoolExecutor(max_workers=self._cores, thread_name_prefix="candidate") as pool:
            futures = [pool.submit(attempt, candidate) for candidate in candidates]
            return [future.result() for future in futures]
