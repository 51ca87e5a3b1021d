"""Artifacts, resources and agents' words to test delivery with."""

from __future__ import annotations

import hashlib
from typing import Any

from edge_compress.domain.artifact import Artifact, GoldenVectors
from edge_compress.domain.job import JobState, JobStatus
from edge_compress.domain.schema import encode
from edge_compress.domain.session import Hello, Move
from edge_compress.domain.spec import Deployment, DeviceProfile, Model, parse_resource
from edge_compress.store.interface import Record, ResourceStore


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def artifact(text: str, model: str = "vision", profile: str = "cam") -> Artifact:
    golden = GoldenVectors(sha(text + "/golden"), 100, 4, 1e-3, 1e-3)
    digest = sha(text)
    return Artifact(f"{model}-{digest[:12]}", model, profile, digest, 1000, 900, "onnxruntime", golden, version=digest[:12])


def profile(name: str = "cam", **spec: Any) -> DeviceProfile:
    made = parse_resource({"kind": "DeviceProfile", "metadata": {"name": name}, "spec": spec})
    assert isinstance(made, DeviceProfile)
    return made


def model(name: str = "vision", **spec: Any) -> Model:
    made = parse_resource({"kind": "Model", "metadata": {"name": name}, "spec": {"source": "vision.onnx", **spec}})
    assert isinstance(made, Model)
    return made


def deployment(name: str = "vision", **spec: Any) -> Deployment:
    made = parse_resource({"kind": "Deployment", "metadata": {"name": name}, "spec": {"model": "vision", **spec}})
    assert isinstance(made, Deployment)
    return made


def apply(store: ResourceStore, *resources: Any) -> Record:
    for resource in resources:
        record, _ = store.apply(
            type(resource).__name__, resource.name, labels=resource.metadata.labels, spec=encode(resource.spec)
        )
    return record


def publish(store: ResourceStore, made: Artifact) -> Artifact:
    store.apply("Artifact", made.name, labels={"model": made.model}, spec=encode(made))
    return made


def finish(
    store: ResourceStore,
    job: str,
    made: Artifact | None,
    state: JobState = JobState.SUCCEEDED,
    message: str = "",
    fallbacks: tuple[Artifact, ...] = (),
) -> None:
    """What the job queue does when a job is over."""
    for one in (*([made] if made is not None else []), *fallbacks):
        publish(store, one)
    name, others = made.name if made is not None else "", tuple(one.name for one in fallbacks)
    ended = JobStatus(state.value, 1.0, artifact=name, fallbacks=others, message=message, finished_at=1.0)
    store.set_status("Job", job, encode(ended))


def hello(device: str = "cam-1", profile: str = "cam", boot: str = "b1", **fields: Any) -> Hello:
    return Hello(device, profile, boot, **fields)


def committed(assignment: str, made: Artifact) -> Move:
    return Move(assignment, "Committed", current_sha256=made.sha256, p95_seconds=0.01)
