"""What jobs leave behind: artifact and outcome records, and which final jobs are old enough to be forgotten."""

from __future__ import annotations

from dataclasses import dataclass

from edge_compress.domain.artifact import Artifact, Outcome, Verdict
from edge_compress.domain.job import JobSpec, JobState, JobStatus
from edge_compress.domain.schema import decode, encode
from edge_compress.errors import NotFound
from edge_compress.store.interface import ApplyOutcome, Record, ResourceStore

VERDICT = "verdict"
"""label of an artifact: whether it meets the goals of the profile it carries"""


@dataclass(frozen=True)
class Yield:
    """What one job yielded."""

    outcome: Outcome
    artifact: Artifact | None
    fallbacks: tuple[Artifact, ...] = ()


def stored(store: ResourceStore, kind: str, name: str) -> Record | None:
    """The record, or None where there is none."""
    try:
        return store.get(kind, name)
    except NotFound:
        return None


def keep(store: ResourceStore, job: Record, result: Yield) -> bool:
    """Store the artifacts, then the outcome. Returns whether the artifact's record is new. Doing it again changes nothing."""
    for other in result.fallbacks:
        _keep_artifact(store, other, result.outcome.verdict)
    new = result.artifact is not None and _keep_artifact(store, result.artifact, result.outcome.verdict)
    store.apply("Outcome", job.name, labels=job.labels, spec=encode(result.outcome))
    return new


def newest_outcomes(store: ResourceStore, model: str) -> list[Outcome]:
    """The outcome of the newest finished job of each profile of a model, by profile."""
    newest: dict[str, Record] = {}
    for record in sorted(store.list("Outcome").records, key=lambda record: record.revision):
        if record.spec.get("model") == model:
            newest[record.spec["profile"]] = record
    return [decode(Outcome, newest[profile].spec, "outcome") for profile in sorted(newest)]


def outdated(store: ResourceStore, kept: int) -> list[str]:
    """Final jobs beyond the newest ``kept``, but never the newest of its pair, recipe and objective, which may be in force as
    long as its profile is there."""
    profiles = {record.name for record in store.list("DeviceProfile").records}
    final = [record for record in store.list("Job").records if _state(record).final]
    final.sort(key=lambda record: record.created_at, reverse=True)
    seen: set[tuple[str, ...]] = set()
    old = []
    for place, record in enumerate(final):
        spec = decode(JobSpec, record.spec, "spec")
        work = (spec.model, spec.profile, spec.recipe, spec.objective)
        if place >= kept and (work in seen or spec.profile not in profiles):
            old.append(record.name)
        seen.add(work)
    return old


def forget(store: ResourceStore, job: str) -> None:
    """Remove a job and its outcome; the job last, so that a restart in between finds it again."""
    for kind in ("Outcome", "Job"):
        if stored(store, kind, job) is not None:
            store.delete(kind, job)


def _keep_artifact(store: ResourceStore, artifact: Artifact, verdict: str) -> bool:
    """The same bytes for two profiles are one record: the first's, unless only the second meets its goals."""
    old = stored(store, "Artifact", artifact.name)
    if old is not None and (verdict != Verdict.FEASIBLE or old.labels.get(VERDICT) == Verdict.FEASIBLE):
        return False
    labels = {"model": artifact.model, "profile": artifact.profile, VERDICT: verdict}
    _, outcome = store.apply("Artifact", artifact.name, labels=labels, spec=encode(artifact))
    return outcome is not ApplyOutcome.UNCHANGED


def _state(record: Record) -> JobState:
    return JobState(decode(JobStatus, record.status, "status").state)
