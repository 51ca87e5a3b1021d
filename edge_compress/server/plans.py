"""What would change if some documents were applied: which resources, which pairs of model and profile, at which predicted cost.

Changes nothing. What is tried for a pair is the engine's answer; how the preview travels is the servicer's business.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_compress.delivery.calibrator import KIND as CALIBRATION
from edge_compress.delivery.links import may_travel
from edge_compress.delivery.world import ADOPTION, adoption
from edge_compress.domain import plan as planning
from edge_compress.domain import spec
from edge_compress.domain.calibration import Corrections
from edge_compress.domain.job import JobState
from edge_compress.domain.model import ModelFacts
from edge_compress.domain.resource import PlannedCandidate, PlannedChange, PlannedPair, PlannedStep, PlanPreview
from edge_compress.domain.schema import decode
from edge_compress.errors import Violation
from edge_compress.server.declarations import Declarations, preview
from edge_compress.server.history import stored
from edge_compress.server.references import check_named
from edge_compress.server.refusals import MissingReference
from edge_compress.server.requests import declared
from edge_compress.server.updates import update_figures
from edge_compress.store.interface import Record, Store
from edge_compress.worker.engine import Engine, PairRequest

_TRY_SECONDS = 20.0
"""about what loading, answering golden vectors, measuring and the trial take on a device"""
Named = tuple[str, str]
"""(kind, name)"""


@dataclass(frozen=True)
class _View:
    """What there would be: the stored resources with the documents over them; ``new`` are the documents' names."""

    resources: Mapping[Named, Any]
    new: frozenset[Named]

    def all(self, kind: str) -> list[Any]:
        return [self.resources[key] for key in sorted(self.resources) if key[0] == kind]


@dataclass(frozen=True)
class _Pair:
    request: PairRequest
    deployment: spec.Deployment | None


class Planner:
    """Makes previews; every method blocks."""

    def __init__(self, store: Store, engine: Engine, declarations: Declarations) -> None:
        self._store, self._engine, self._declarations = store, engine, declarations

    def preview(self, documents: Sequence[spec.Resource], facts: Mapping[str, ModelFacts]) -> PlanPreview:
        """The preview; ``facts`` are those of models, by sha256, whose files the server may not hold.

        Raises InvalidSpec, and MissingReference for a name that is neither in the documents nor stored.
        """
        view = self._view(documents)
        for document in documents:
            self._declarations.check(document)
            if isinstance(document, spec.Deployment):
                check_named(document, lambda kind, name: (kind, name) in view.resources)
        changes = [self._change(document) for document in documents]
        devices = list(self._store.list("Device").records)
        pairs = [self._pair(pair, facts, devices) for pair in _pairs(view)]
        return PlanPreview(tuple(changes), tuple(pairs))

    def _view(self, documents: Sequence[spec.Resource]) -> _View:
        resources: dict[Named, Any] = {}
        for kind in spec.KINDS:
            resources |= {(kind, record.name): declared(record) for record in self._store.list(kind).records}
        given = {(type(document).__name__, document.name): document for document in documents}
        return _View(resources | given, frozenset(given))

    def _change(self, document: spec.Resource) -> PlannedChange:
        _, outcome = preview(self._store, document)
        return PlannedChange(type(document).__name__, document.name, outcome.value)

    def _pair(self, pair: _Pair, facts: Mapping[str, ModelFacts], devices: Sequence[Record]) -> PlannedPair:
        request = pair.request
        learned = self._learned(request)
        found = self._engine.plan(replace(request, corrections=learned), self._facts(request.model, facts))
        selected = [device for device in devices if _selects(pair, device)]
        name, job = self._job(pair, learned)
        state = JobState(job.status.get("state", JobState.QUEUED)) if job else JobState.QUEUED
        done = state in (JobState.SUCCEEDED, JobState.INFEASIBLE)
        to_send, held = self._remaining(pair, job, selected) if job and done else (_predicted(found, len(selected)), 0)
        link = request.profile.spec.link
        hopeless = state is JobState.INFEASIBLE or not found.candidates
        return PlannedPair(
            request.model.name,
            request.profile.name,
            pair.deployment.name if pair.deployment else "",
            len(selected),
            (*(_candidate(item) for item in found.candidates), *(_refusal(item) for item in found.refused)),
            to_send,
            done,
            name,
            away=sum(not device.status.get("connected", False) for device in selected),
            unfit=len(selected) if hopeless else 0,
            held=held,
            artifact=str(job.status.get("artifact", "")) if job and done else "",
            metered_bytes=to_send if link.metered else 0,
            expected_seconds=_expected_seconds(pair, to_send, len(selected)),
            now_p95_seconds=_median(device.status.get("p95_seconds") for device in selected),
            now_joules=_median(device.status.get("joules_per_inference") for device in selected),
            **update_figures(self._store, self._engine, job if done else None, selected),
        )

    def _learned(self, request: PairRequest) -> Corrections:
        """What devices of the profile taught."""
        record = stored(self._store, CALIBRATION, request.profile.name)
        return Corrections() if record is None else decode(Corrections, record.spec, "spec")

    def _job(self, pair: _Pair, learned: Corrections) -> tuple[str, Record | None]:
        """The job that there is, or the name of the one that would be made with what is known now."""
        record = stored(self._store, "Deployment", pair.deployment.name) if pair.deployment else None
        adopted = stored(self._store, ADOPTION, adoption(record.uid, pair.request.profile.name)) if record else None
        was = Corrections() if adopted is None else decode(Corrections, adopted.spec, "spec")
        names = [_job_name(pair.request, self._engine.key(replace(pair.request, corrections=one))) for one in (was, learned)]
        found = [(name, job) for name in names if (job := stored(self._store, "Job", name)) is not None]
        return found[0] if found else (names[-1], None)

    def _facts(self, model: spec.Model, facts: Mapping[str, ModelFacts]) -> ModelFacts | None:
        """The facts that came with the request; None when the engine can find out more by itself."""
        files = [model.spec.file(path) for path in model.spec.paths().values()]
        if all(file and file.sha256 and self._store.blobs.has(file.sha256) for file in files):
            return None
        source = model.spec.file(model.spec.source)
        if source is not None and source.sha256 in facts:
            return replace(facts[source.sha256], sha256=source.sha256)
        said = f"{model.spec.source} is not uploaded and its facts were not sent; upload it, or send facts_json"
        raise MissingReference(f"Model {model.name}: {said}", violations=(Violation("spec.source", said),))

    def _remaining(self, pair: _Pair, job: Record, devices: Sequence[Record]) -> tuple[int, int]:
        """Bytes that devices still have to be sent of an artifact that exists, and how many of them wait for their links."""
        artifact = stored(self._store, "Artifact", job.status.get("artifact", ""))
        if artifact is None or job.status.get("state") != JobState.SUCCEEDED:
            return 0, 0
        good = {artifact.name, *job.status.get("fallbacks", ())}
        waiting = [device for device in devices if device.status.get("artifact") not in good]
        sizes = [self._to_send(pair, artifact, device) for device in waiting]
        return sum(size or 0 for size in sizes), sizes.count(None)

    def _to_send(self, pair: _Pair, artifact: Record, device: Record) -> int | None:
        """Bytes for a device: differences where they are fewer than the whole; None: it waits."""
        whole, runs = int(artifact.spec["download_bytes"]), str(device.status.get("artifact", ""))
        base = stored(self._store, "Artifact", runs) if runs else None
        size = None if base is None else self._engine.update_bytes(artifact.spec["sha256"], base.spec["sha256"])
        policy = pair.deployment.spec.rollout.metered if pair.deployment else "whole"
        again = bool(device.status.get("version"))
        if pair.request.profile.spec.link.metered and not may_travel(policy, whole, size, again=again):
            return None
        return whole if size is None else min(size, whole)


def _pairs(view: _View) -> Iterator[_Pair]:
    """The pairs that the documents have a part in; without any deployment, each of their models for each of their profiles."""
    selected = [pair for deployment in view.all("Deployment") for pair in _selected(view, deployment) if _touched(view, pair)]
    if selected or any(kind == "Deployment" for kind, _ in view.new):
        yield from selected
        return
    for model in view.all("Model"):
        for profile in view.all("DeviceProfile"):
            if {("Model", model.name), ("DeviceProfile", profile.name)} <= view.new:
                yield _Pair(PairRequest(model, profile, None), None)


def _selected(view: _View, deployment: spec.Deployment) -> Iterator[_Pair]:
    wanted = deployment.spec
    recipe = None if wanted.recipe == "auto" else view.resources.get(("Recipe", wanted.recipe))
    model = view.resources.get(("Model", wanted.model))
    for profile in view.all("DeviceProfile"):
        declared = profile.metadata.labels.get(spec.STANDS_IN_FOR, profile.name)
        if model is not None and (declared in wanted.selector.profiles or not wanted.selector.profiles):
            yield _Pair(PairRequest(model, profile, recipe, wanted.objective), deployment)


def _touched(view: _View, pair: _Pair) -> bool:
    request = pair.request
    named = {("Model", request.model.name), ("DeviceProfile", request.profile.name)}
    named |= {("Recipe", request.recipe.name)} if request.recipe else set()
    named |= {("Deployment", pair.deployment.name)} if pair.deployment else set()
    return bool(named & view.new)


def _selects(pair: _Pair, device: Record) -> bool:
    profile = device.spec.get("profile", "")
    if (device.status.get("made_for") or profile) != pair.request.profile.name:
        return False
    return pair.deployment is not None and pair.deployment.spec.selector.matches(profile, device.labels)


def _job_name(request: PairRequest, key: str) -> str:
    return f"{request.model.name}-{request.profile.name}-{key[:10]}"


def _predicted(found: planning.Plan, devices: int) -> int:
    likeliest = found.candidates[0].predicted.download_bytes if found.candidates else None
    return devices * (likeliest or 0)


def _expected_seconds(pair: _Pair, to_send: int, devices: int) -> float | None:
    """Each step downloads, tries out and soaks; the devices of a step do so side by side, each over its own link."""
    bandwidth = pair.request.profile.spec.link.usable
    if pair.deployment is None or not devices or bandwidth is None:
        return None
    policy = pair.deployment.spec.rollout
    return len(policy.steps) * (8 * to_send / devices / bandwidth + _TRY_SECONDS + policy.soak)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _candidate(item: planning.Candidate) -> PlannedCandidate:
    return PlannedCandidate(_steps(item.steps), "", **_figures(item.predicted))


def _refusal(item: planning.Refusal) -> PlannedCandidate:
    return PlannedCandidate(_steps(item.steps), item.why, **_figures(item.predicted))


def _steps(steps: Sequence[Any]) -> tuple[PlannedStep, ...]:
    return tuple(PlannedStep(step.strategy, step.params) for step in steps)


def _figures(predicted: planning.Prediction) -> dict[str, Any]:
    names = ("bytes", "download_bytes", "latency_seconds", "memory_bytes", "energy_joules")
    return {name: getattr(predicted, name) for name in names}
