"""What a preview tells of the update from what devices run to the artifact that was made for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from edge_compress.domain.artifact import AppliedStep, Artifact, CandidateResult, Outcome
from edge_compress.domain.schema import decode
from edge_compress.server.history import stored
from edge_compress.store.interface import Record, ResourceStore
from edge_compress.worker.engine import Engine


def update_figures(store: ResourceStore, engine: Engine, job: Record | None, devices: Sequence[Record]) -> dict[str, Any]:
    """Fields of a ``PlannedPair``: in how many bytes what ``job`` made is sent in full, and in how many to devices that run what
    was delivered before. ``job``: one that is done; None: nothing was made."""
    made = None if job is None else _artifact(store, job.status.get("artifact", ""))
    before = _before(store, job, made, devices)
    told: dict[str, Any] = {"previous": before.name if before else ""}
    if job is None or made is None:
        return told
    told["download_bytes"] = made.download_bytes
    if before is not None:
        told["update_bytes"] = engine.update_bytes(made.sha256, before.sha256)
        if before.sha256 == job.spec.get("previous", ""):
            told["fresh_update_bytes"] = _fresh(store, job.name, before.sha256)
    return told


def _before(store: ResourceStore, job: Record | None, made: Artifact | None, devices: Sequence[Record]) -> Artifact | None:
    """The artifact that most devices run instead of ``made``; else the one that they ran when the job was made."""
    return next((one for one in _known(store, job, devices) if made is None or one.name != made.name), None)


def _known(store: ResourceStore, job: Record | None, devices: Sequence[Record]) -> Iterator[Artifact]:
    running = Counter(device.status.get("artifact", "") for device in devices)
    for name, _ in running.most_common():
        if (found := _artifact(store, name)) is not None:
            yield found
    if job is not None and (wanted := job.spec.get("previous", "")):
        for record in store.list("Artifact").records:
            if record.spec["sha256"] == wanted:
                yield decode(Artifact, record.spec)


def _fresh(store: ResourceStore, job: str, previous: str) -> int | None:
    """Bytes of the update had nothing of the artifact before been kept; None where nothing was, or it was not measured."""
    record = stored(store, "Outcome", job)
    outcome = None if record is None else decode(Outcome, record.spec)
    if outcome is None or outcome.chosen is None or previous not in _values(outcome.chosen):
        return None
    plain = tuple(_without(step, previous) for step in outcome.chosen.steps)
    return next((one.measurement.update_bytes for one in outcome.candidates if one.steps == plain), None)


def _values(chosen: CandidateResult) -> list[Any]:
    return [value for step in chosen.steps for value in step.params.values()]


def _without(step: AppliedStep, previous: str) -> AppliedStep:
    return replace(step, params={name: "" if value == previous else value for name, value in step.params.items()})


def _artifact(store: ResourceStore, name: str) -> Artifact | None:
    record = stored(store, "Artifact", name) if name else None
    return None if record is None else decode(Artifact, record.spec)
