"""What declared resources name, and who needs them: loaded plugins on one side, other resources on the other.

Everything here is decided from what it is given; ``declarations`` reads the store and acts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from edge_compress.domain import spec
from edge_compress.domain.schema import decode
from edge_compress.errors import InvalidSpec, Violation
from edge_compress.plugin.registry import Registry
from edge_compress.server.refusals import MissingReference
from edge_compress.store.interface import Record


def check_plugins(resource: spec.Resource, registry: Registry) -> None:
    """Refuse a resource that names a runtime, metric, gate, strategy or parameter nobody offers. Raises InvalidSpec."""
    if isinstance(resource, spec.DeviceProfile):
        if spec.STANDS_IN_FOR in resource.metadata.labels:
            field = f"metadata.labels.{spec.STANDS_IN_FOR}"
            raise InvalidSpec.at(field, resource.metadata.labels[spec.STANDS_IN_FOR], "no such label", "only the server sets it")
        registry.target(resource.spec.runtime, "spec.runtime")
    elif isinstance(resource, spec.Model) and resource.spec.quality.metric:
        registry.quality_metric(resource.spec.quality.metric, "spec.quality.metric")
    elif isinstance(resource, spec.Recipe):
        for index, step in enumerate(resource.spec.steps):
            strategy = registry.strategy(step.strategy, f"spec.steps[{index}].strategy")
            decode(strategy.Params, step.params, f"spec.steps[{index}].params")
    elif isinstance(resource, spec.Deployment):
        for index, gate in enumerate(resource.spec.rollout.gates):
            registry.gate_metric(gate.metric, f"spec.rollout.gates[{index}].metric")


def named_by(deployment: spec.DeploymentSpec) -> Iterator[tuple[str, str, str]]:
    """Every (field, kind, name) that a deployment refers to."""
    yield "spec.model", "Model", deployment.model
    if deployment.recipe != "auto":
        yield "spec.recipe", "Recipe", deployment.recipe
    for index, profile in enumerate(deployment.selector.profiles):
        yield f"spec.selector.profiles[{index}]", "DeviceProfile", profile


def check_named(deployment: spec.Deployment, exists: Callable[[str, str], bool]) -> None:
    """Raise MissingReference naming each field that refers to something that does not exist."""
    missing = tuple(
        Violation(field, f"{kind} {name!r} does not exist; apply it first")
        for field, kind, name in named_by(deployment.spec)
        if not exists(kind, name)
    )
    if missing:
        said = "; ".join(f"{violation.field}: {violation.description}" for violation in missing)
        raise MissingReference(said, violations=missing)


def check_uploaded(model: spec.Model, has: Callable[[str], bool]) -> None:
    """Refuse a model whose files are not all declared with their digest (InvalidSpec) or not all uploaded (MissingReference)."""
    missing = []
    for field, path in model.spec.paths().items():
        file = model.spec.file(path)
        if file is None or not file.sha256:
            raise InvalidSpec.at("spec.files", path, f"the sha256 of the file that {field} names")
        if not has(file.sha256):
            missing.append(Violation(field, f"{path} ({file.sha256[:12]}) is not uploaded; send it with UploadBlob first"))
    if missing:
        said = "; ".join(f"{violation.field}: {violation.description}" for violation in missing)
        raise MissingReference(said, violations=tuple(missing))


def users(kind: str, name: str, others: Mapping[str, Iterable[Record]]) -> tuple[str, ...]:
    """Who needs the resource ``kind``/``name``, as ``deployment/vision``; ``others`` maps kind -> all records of that kind."""
    found = [f"deployment/{record.name}" for record in others.get("Deployment", ()) if _deploys(record, kind, name)]
    if kind == "DeviceProfile":
        found += [f"device/{record.name}" for record in others.get("Device", ()) if record.spec.get("profile") == name]
    if kind == "Artifact":
        found += [f"device/{record.name}" for record in others.get("Device", ()) if record.status.get("artifact") == name]
        found += [f"rollout/{record.name}" for record in others.get("Rollout", ()) if _rolls_out(record, name)]
    return tuple(found)


def digests(kind: str, record_spec: Mapping[str, Any]) -> frozenset[str]:
    """The blobs that a record needs."""
    if kind == "Model":
        return frozenset(file.get("sha256", "") for file in record_spec.get("files", ()))
    if kind == "Artifact":
        return frozenset((record_spec["sha256"], record_spec["golden"]["sha256"]))
    return frozenset()


def _deploys(record: Record, kind: str, name: str) -> bool:
    deployment = decode(spec.DeploymentSpec, record.spec, "spec")
    return any((kind, name) == (named_kind, named) for _, named_kind, named in named_by(deployment))


def _rolls_out(record: Record, artifact: str) -> bool:
    """Devices of one that was aborted may still be on their way back."""
    state = record.status.get("state")
    needed = [*record.spec.get("base", {}).values()] if state != "Superseded" else []
    if state not in ("Aborted", "Superseded"):
        needed += record.spec.get("artifacts", {}).values()
        needed += [name for ladder in record.spec.get("ladders", ()) for name in ladder["artifacts"]]
    return artifact in needed
