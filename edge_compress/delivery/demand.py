"""Which compressions a deployment needs, and what to say about how far they are. Pure but for asking a key.

Making the jobs is left to ``reconcile``; running them is the job queue's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from edge_compress.delivery.rollouts import reached_last
from edge_compress.delivery.world import Job, StoredDeployment, World, adoption
from edge_compress.domain.calibration import Corrections
from edge_compress.domain.job import JobSpec, JobState
from edge_compress.domain.rollout import Ladder
from edge_compress.domain.spec import STANDS_IN_FOR, DeviceProfile, Model, Recipe, Selector
from edge_compress.errors import EdgeCompressError, NotFound

_WORTH_REPLANNING = 0.05
"""logarithm by which corrections must differ: each job takes minutes"""
AskKey = Callable[[Model, DeviceProfile, Recipe | None, str, Corrections], str]
"""(model, profile, recipe or None, objective, what reports corrected) -> digest of everything that decides the outcome. Raises
EdgeCompressError."""


@dataclass(frozen=True)
class Need:
    """One (model, profile) pair of a deployment; ``spec`` is None when it cannot be compressed, because of ``error``."""

    profile: str
    spec: JobSpec | None
    error: str = ""
    adoption: str = ""

    @property
    def job(self) -> str:
        """Name of the job that does it."""
        return f"{self.spec.model}-{self.spec.profile}-{self.spec.key[:10]}" if self.spec else ""


@dataclass(frozen=True)
class Progress:
    """How far the compressions of a deployment are, in the words of a condition."""

    status: str
    reason: str
    message: str


class Keys:
    """Asks for keys once per generation of what decides them."""

    def __init__(self, ask: AskKey) -> None:
        self._ask = ask
        self._known: dict[tuple[object, ...], str] = {}

    def key(self, world: World, deployment: StoredDeployment, profile: str, corrections: Corrections) -> str:
        """The key of one pair. Raises NotFound for what is not there, and what asking raises."""
        spec = deployment.value.spec
        if spec.model not in world.models:
            raise NotFound("Model", spec.model)
        if profile not in world.profiles:
            raise NotFound("DeviceProfile", profile)
        if spec.recipe != "auto" and spec.recipe not in world.recipes:
            raise NotFound("Recipe", spec.recipe)
        model, device = world.models[spec.model], world.profiles[profile]
        recipe = world.recipes.get(spec.recipe) if spec.recipe != "auto" else None
        records = (model[0], device[0], *((recipe[0],) if recipe else ()))
        decides = (spec.objective, corrections, *((record.uid, record.generation) for record in records))
        if decides not in self._known:
            self._known[decides] = self._ask(model[1], device[1], recipe[1] if recipe else None, spec.objective, corrections)
        return self._known[decides]


def needs_of(world: World, deployment: StoredDeployment, keys: Keys) -> list[Need]:
    """Every pair that the deployment selects, by profile."""
    spec = deployment.value.spec
    found = []
    for profile in sorted(_profiles(world, spec.selector)):
        try:
            found.append(_need(world, deployment, profile, keys))
        except EdgeCompressError as error:
            found.append(Need(profile, None, str(error)))
    return found


def _need(world: World, deployment: StoredDeployment, profile: str, keys: Keys) -> Need:
    """A job is made with what reports had taught until then, and stays what it is whatever they teach later: else each report
    might make another one. Where there is none yet, what is known now counts."""
    spec, name = deployment.value.spec, adoption(deployment.record.uid, profile)

    def with_(corrections: Corrections) -> Need:
        key = keys.key(world, deployment, profile, corrections)
        wanted = JobSpec(key, spec.model, profile, spec.recipe, spec.objective, deployment.value.name, corrections=corrections)
        return Need(profile, wanted, adoption=name)

    adopted = with_(world.adopted.get(name, Corrections()))
    known = world.learned.get(profile, Corrections())
    return adopted if adopted.job in world.jobs else with_(known)


def replanned(world: World, deployment: StoredDeployment, need: Need, keys: Keys) -> Need:
    """The same pair with what is known now, where that differs from what its job was made with."""
    known = world.learned.get(need.profile, Corrections())
    if need.spec is None or known.near(need.spec.corrections, _WORTH_REPLANNING):
        return need
    key = keys.key(world, deployment, need.profile, known)
    return replace(need, spec=replace(need.spec, key=key, corrections=known))


def _profiles(world: World, selector: Selector) -> set[str]:
    """The profiles that are selected, with those that stand in for them."""
    if not selector.profiles:
        return set(world.profiles)
    made = {name for name, (record, _) in world.profiles.items() if record.labels.get(STANDS_IN_FOR) in selector.profiles}
    return made.union(selector.profiles)


def with_previous(world: World, spec: JobSpec, deployment: StoredDeployment) -> JobSpec:
    """The job with the artifact that its devices run, to which an update should be small: that of the deployment's last rollout
    that reached everybody. It is told when a job is made and stays, whatever is delivered later."""
    _, reached = reached_last(deployment, world.rollouts.values())
    artifact = world.artifacts.get(reached.get(spec.profile, ""))
    return replace(spec, previous=artifact.sha256) if artifact else spec


def must_be_redone(world: World, need: Need) -> bool:
    """Whether the job was given up before what decides it was last declared: somebody wants it again, so it is made anew."""
    job = world.jobs.get(need.job)
    if need.spec is None or job is None or job.status.state not in (JobState.CANCELLED, JobState.FAILED):
        return False
    records = [world.models[need.spec.model][0], world.profiles[need.profile][0]]
    if need.spec.recipe in world.recipes:
        records.append(world.recipes[need.spec.recipe][0])
    return any(record.updated_at > job.status.finished_at for record in records)


def artifacts_of(world: World, needs: Sequence[Need]) -> dict[str, str]:
    """Profile -> artifact, for the pairs that met every goal and whose artifact is there. Others are never delivered."""
    found = {}
    for need in needs:
        job = world.jobs.get(need.job)
        if job and job.status.state == JobState.SUCCEEDED and job.status.artifact in world.artifacts:
            found[need.profile] = job.status.artifact
    return found


def ladders_of(world: World, needs: Sequence[Need], profiles: Iterable[str]) -> tuple[Ladder, ...]:
    """The next-best artifacts that are there, for those of ``profiles`` that have any."""
    known = set(profiles)
    found = []
    for need in needs:
        job = world.jobs.get(need.job)
        names = tuple(name for name in job.status.fallbacks if name in world.artifacts) if job else ()
        if names and need.profile in known:
            found.append(Ladder(need.profile, names))
    return tuple(found)


def progress_of(world: World, needs: Sequence[Need]) -> Progress:
    """How far the compressions are. The worst pair decides."""
    if not needs:
        return Progress("Unknown", "NoProfiles", "there is no device profile to compress for yet")
    said = [_said(need, world.jobs.get(need.job)) for need in needs]
    for reason in ("Invalid", "Failed", "Cancelled", "Infeasible"):
        if messages := [message for one, message in said if one == reason]:
            return Progress("False", reason, "; ".join(messages))
    done = sum(reason == "Done" for reason, _ in said)
    if done < len(needs):
        return Progress("Unknown", "Compressing", f"{done} of {len(needs)} profiles done")
    return Progress("True", "Feasible", f"{done} of {len(needs)} profiles done, every goal met")


def _said(need: Need, job: Job | None) -> tuple[str, str]:
    if need.error:
        return "Invalid", f"{need.profile}: {need.error}"
    if job is None or not JobState(job.status.state).final:
        return "Working", ""
    if job.status.state == JobState.SUCCEEDED:
        return "Done", ""
    return job.status.state, f"{need.profile}: {job.status.message or job.status.state}"
