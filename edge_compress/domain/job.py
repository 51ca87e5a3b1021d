"""Compression jobs: one (model, profile) pair with everything that decides its outcome, and the states it moves through."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from edge_compress.domain.calibration import Corrections
from edge_compress.errors import Conflict


class JobState(enum.StrEnum):
    """Where a job stands. QUEUED and RUNNING survive a restart: a running job goes back to QUEUED and its finished steps stay."""

    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    INFEASIBLE = "Infeasible"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return not MOVES[self]


MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.INFEASIBLE, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.INFEASIBLE: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def check_move(old: JobState, new: JobState) -> None:
    """Raise Conflict unless ``old`` may become ``new``."""
    if new not in MOVES[old]:
        raise Conflict(f"a {old} job cannot become {new}")


@dataclass(frozen=True)
class JobSpec:
    """What a job is to do. ``key`` is the digest of all that decides the outcome, but for ``previous``: equal keys are the same
    work. ``previous`` is the sha256 of the artifact that had reached everybody when the job was made, to which updates should be
    small; empty: there was none. ``corrections``: what was learned of the profile when the job was made; the key covers them."""

    key: str
    model: str
    profile: str
    recipe: str = "auto"
    objective: str = "latency"
    deployment: str = ""
    previous: str = ""
    corrections: Corrections = Corrections()


@dataclass(frozen=True)
class JobStatus:
    """How far a job is. ``progress`` runs from 0 to 1; ``step`` is what it does just now, in words."""

    state: str = JobState.QUEUED.value
    progress: float = 0.0
    step: str = ""
    message: str = ""
    artifact: str = ""
    fallbacks: tuple[str, ...] = ()
    """next-best artifacts that keep every limit, too"""
    started_at: float = 0.0
    finished_at: float = 0.0
    """seconds since the epoch; 0: not yet"""
