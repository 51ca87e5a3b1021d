"""Which classes of a deployment miss their goals by what their devices report. Reads outcomes, and decides nothing itself.

Whether a class misses, and what would be chosen instead, is decided in ``domain.miss``; what follows, in ``reconcile``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edge_compress.delivery.demand import Need
from edge_compress.delivery.world import StoredDeployment, World
from edge_compress.domain.artifact import Outcome
from edge_compress.domain.job import JobSpec, JobState
from edge_compress.domain.miss import Goals, Miss, missed
from edge_compress.domain.schema import decode
from edge_compress.errors import NotFound
from edge_compress.store.interface import ResourceStore

_MOST_KNOWN = 1000


class Misses:
    """Judges again only when what decides it has changed: outcomes are large. ``needs``: precisions by strategy."""

    def __init__(self, store: ResourceStore, needs: Mapping[str, Sequence[str]]) -> None:
        self._store, self._needs = store, needs
        self._known: dict[tuple[object, ...], Miss | None] = {}

    def of(self, world: World, deployment: StoredDeployment, needs: Iterable[Need]) -> dict[str, Miss] | None:
        """Profile -> what it misses; None while a profile is compressed anew, for then nobody knows."""
        found = {}
        for need in needs:
            rollout = world.rollouts.get(deployment.rollout)
            artifact = world.artifacts.get(rollout.spec.artifacts.get(need.profile, "")) if rollout else None
            if need.spec is None or artifact is None or need.profile not in world.learned:
                continue
            if need.job not in world.jobs or not JobState(world.jobs[need.job].status.state).final:
                return None
            if (miss := self._judged(world, need.spec, need, artifact.sha256)) is not None:
                found[need.profile] = miss
        return found

    def _judged(self, world: World, spec: JobSpec, need: Need, sha256: str) -> Miss | None:
        record, profile = world.profiles[need.profile]
        corrections = world.learned[need.profile]
        key = (need.job, sha256, record.uid, record.generation, corrections)
        if key not in self._known:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            goals = Goals(profile.spec, world.models[spec.model][1].spec.quality.max_drop, spec.objective)
            outcome = self._outcome(need.job)
            self._known[key] = None if outcome is None else missed(outcome, sha256, goals, corrections, self._needs)
        return self._known[key]

    def _outcome(self, job: str) -> Outcome | None:
        try:
            return decode(Outcome, self._store.get("Outcome", job).spec, "spec")
        except NotFound:
            return None
