"""Whole outcomes, remembered by the digest of everything that decides them, so that the same work is never done twice.

Single steps are remembered by ``steps``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_compress.domain.artifact import Artifact, CandidateResult, Outcome
from edge_compress.domain.schema import decode, encode
from edge_compress.store.interface import Store
from edge_compress.worker.inputs import PairRequest
from edge_compress.worker.planning import NO_ANSWER

NOT_NEEDED = "not needed: goals are met without training; give a budget to look further"
UNASKED = "others that train promise more; give a budget to look further"
OUT_OF_TIME = "the time budget ended"


@dataclass(frozen=True)
class PairResult:
    """The outcome, and the artifact to publish: for INFEASIBLE the nearest one, None when nothing could be made."""

    outcome: Outcome
    artifact: Artifact | None
    fallbacks: tuple[Artifact, ...] = ()
    """next-best ones, where the outcome is FEASIBLE"""

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All of them, the best first."""
        return (*((self.artifact,) if self.artifact else ()), *self.fallbacks)


class OutcomeMemory:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, key: str, allotted: str) -> PairResult | None:
        """The outcome that is remembered. ``allotted``: what a budget allowed to train, empty without one; with one, an outcome
        that left training out is no answer."""
        if allotted and (known := self._known(_outcome_key(key, allotted))) is not None:
            return known
        known = self._known(_outcome_key(key, ""))
        return None if known and allotted and _left_out(known) else known

    def keep(self, key: str, allotted: str, result: PairResult) -> None:
        """Remember an outcome, unless another run might end otherwise."""
        if any(_may_differ_next_time(item) for item in result.outcome.candidates):
            return
        artifact = encode(result.artifact) if result.artifact else None
        kept = {"outcome": encode(result.outcome), "artifact": artifact, "fallbacks": encode(result.fallbacks)}
        self._store.put_step(_outcome_key(key, allotted), kept)

    def _known(self, key: str) -> PairResult | None:
        value = self._store.step(key)
        if value is None:
            return None
        artifact = decode(Artifact, value["artifact"]) if value["artifact"] else None
        others = tuple(decode(Artifact, item) for item in value.get("fallbacks", ()))
        known, blobs = PairResult(decode(Outcome, value["outcome"]), artifact, others), self._store.blobs
        if not all(blobs.has(item.sha256) and blobs.has(item.golden.sha256) for item in known.artifacts):
            return None
        return known


def renamed(known: PairResult, request: PairRequest) -> PairResult:
    """A result under the names of ``request``: a pair with other names may have been the first to do the same work."""
    model, profile = request.model.name, request.profile.name
    made = [replace(item, name=f"{model}-{item.sha256[:12]}", model=model, profile=profile) for item in known.artifacts]
    artifact, others = (made[0], tuple(made[1:])) if known.artifact else (None, tuple(made))
    return PairResult(replace(known.outcome, model=model, profile=profile), artifact, others)


def _outcome_key(key: str, allotted: str) -> str:
    return f"search/{key}/{allotted}" if allotted else f"outcome/{key}"


def _left_out(known: PairResult) -> bool:
    """Whether there is something that a budget would have trained."""
    return any(item.why in (NOT_NEEDED, UNASKED) for item in known.outcome.candidates)


def _may_differ_next_time(item: CandidateResult) -> bool:
    """Whether a candidate's end came from the clock or the machine rather than from what was asked."""
    unasked = item.state == "refused" and item.why.startswith(NO_ANSWER)
    stopped = item.state == "failed" and item.why.startswith(("timeout:", "memory:", "crash:"))
    late = item.state == "skipped" and item.why.startswith(OUT_OF_TIME)
    return late or unasked or stopped
