"""The only door between resources and wire messages: which message belongs to which kind, and what the server adds to it.

Field by field conversion is ``messages``' work, how an error travels is ``status``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from edge_compress.api.v1 import agents_pb2, artifacts_pb2, common_pb2, compression_pb2, deployments_pb2, models_pb2, profiles_pb2
from edge_compress.domain import artifact, fleet, job, plan, resource, rollout, spec
from edge_compress.domain.command import Command
from edge_compress.domain.schema import decode
from edge_compress.errors import InvalidInput
from edge_compress.messages import M, enum_number, enum_text, fill, from_message, plain_of, to_message


@dataclass(frozen=True)
class _Kind:
    """What a kind is on both sides of the border."""

    message: Any
    spec: type
    status: type | None
    declared: bool = False


_KINDS: dict[str, _Kind] = {
    "DeviceProfile": _Kind(profiles_pb2.Profile, spec.DeviceProfileSpec, resource.ResourceStatus, True),
    "Model": _Kind(models_pb2.Model, spec.ModelSpec, resource.ResourceStatus, True),
    "Recipe": _Kind(compression_pb2.Recipe, spec.RecipeSpec, resource.ResourceStatus, True),
    "Deployment": _Kind(deployments_pb2.Deployment, spec.DeploymentSpec, resource.ResourceStatus, True),
    "Job": _Kind(compression_pb2.Job, job.JobSpec, job.JobStatus),
    "Artifact": _Kind(artifacts_pb2.Artifact, artifact.Artifact, None),
    "Device": _Kind(agents_pb2.Device, fleet.DeviceSpec, fleet.DeviceStatus),
    "Rollout": _Kind(deployments_pb2.Rollout, rollout.RolloutSpec, rollout.RolloutStatus),
}
_KIND_OF_MESSAGE = {kind.message.DESCRIPTOR.full_name: name for name, kind in _KINDS.items()}


class RecordLike(Protocol):
    """What a stored record shows; ``store.interface.Record`` is one."""

    @property
    def kind(self) -> str:
        """Name of the kind."""

    @property
    def name(self) -> str:
        """Unique within the kind."""

    @property
    def uid(self) -> str:
        """The same for the life of the resource."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What selectors match."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """``encode`` of the kind's spec."""

    @property
    def status(self) -> Mapping[str, Any]:
        """``encode`` of the kind's status; empty: none yet."""

    @property
    def generation(self) -> int:
        """Changes of the spec, from 1."""

    @property
    def revision(self) -> int:
        """Position in the store's sequence of changes."""

    @property
    def created_at(self) -> float:
        """Seconds since the epoch."""

    @property
    def updated_at(self) -> float:
        """Seconds since the epoch."""


def resource_to_wire(value: spec.Resource, record: RecordLike | None = None) -> Any:
    """The Profile, Model, Recipe or Deployment message of a declared resource, with the server's metadata and status where its
    ``record`` is given. Raises InvalidSpec for a value that the wire cannot carry."""
    if record is not None:
        return _message(record.kind, _meta(record), value.spec, record.status)
    return _message(type(value).__name__, resource.ObjectMeta(value.name, value.metadata.labels), value.spec, {})


def resource_from_wire(message: Message) -> spec.Resource:
    """The declared resource in a Profile, Model, Recipe or Deployment message. Raises InvalidSpec naming the field."""
    name = _KIND_OF_MESSAGE[message.DESCRIPTOR.full_name]
    wire: Any = message
    body = {
        "metadata": plain_of(spec.Metadata, wire.metadata, declared=True),
        "spec": plain_of(_KINDS[name].spec, wire.spec, declared=True),
    }
    return decode(spec.KINDS[name], body)


def record_to_wire(record: RecordLike) -> Any:
    """The message of a stored record of any kind."""
    return _message(record.kind, _meta(record), decode(_KINDS[record.kind].spec, record.spec, "spec"), record.status)


def job_to_wire(record: RecordLike) -> compression_pb2.Job:
    """The Job message of a stored job."""
    return _checked(record_to_wire(record), compression_pb2.Job)


def artifact_to_wire(record: RecordLike) -> artifacts_pb2.Artifact:
    """The Artifact message of a stored artifact."""
    return _checked(record_to_wire(record), artifacts_pb2.Artifact)


def device_to_wire(record: RecordLike) -> agents_pb2.Device:
    """The Device message of a stored device."""
    return _checked(record_to_wire(record), agents_pb2.Device)


def rollout_to_wire(record: RecordLike) -> deployments_pb2.Rollout:
    """The Rollout message of a stored rollout."""
    return _checked(record_to_wire(record), deployments_pb2.Rollout)


def stored_from_wire(message: Message) -> resource.Stored:
    """The resource of any kind in a message, with the server's metadata and status. Raises InvalidSpec."""
    name = _KIND_OF_MESSAGE[message.DESCRIPTOR.full_name]
    kind = _KINDS[name]
    wire: Any = message
    meta = from_message(resource.ObjectMeta, wire.metadata, "metadata")
    body = plain_of(kind.spec, wire.spec)
    if kind.spec is artifact.Artifact:
        body["name"] = meta.name
    status = from_message(kind.status, wire.status, "status") if kind.status else None
    return resource.Stored(name, meta, decode(kind.spec, body, "spec"), status)


def artifact_spec_to_wire(value: artifact.Artifact) -> artifacts_pb2.ArtifactSpec:
    """The part of an artifact that an assignment carries."""
    return to_message(value, artifacts_pb2.ArtifactSpec)


def artifact_spec_from_wire(name: str, message: artifacts_pb2.ArtifactSpec) -> artifact.Artifact:
    """The artifact called ``name`` in an assignment. Raises InvalidSpec."""
    return decode(artifact.Artifact, {**plain_of(artifact.Artifact, message), "name": name}, "spec")


def planned_candidate_to_wire(value: plan.Candidate | plan.Refusal) -> compression_pb2.PlannedCandidate:
    """A candidate of a plan, or why it is refused."""
    message = to_message(value.predicted, compression_pb2.PlannedCandidate)
    for step in value.steps:
        fill(message.steps.add(), resource.PlannedStep(step.strategy, step.params), "steps")
    message.refused = value.why if isinstance(value, plan.Refusal) else ""
    return message


def outcome_to_wire(outcome: str) -> Any:
    """The enum value of ``created``, ``configured`` or ``unchanged``."""
    return enum_number(common_pb2.ApplyOutcome.DESCRIPTOR, outcome)


def outcome_from_wire(number: int) -> str:
    """``created``, ``configured`` or ``unchanged``."""
    return enum_text(common_pb2.ApplyOutcome.DESCRIPTOR, number).lower()


def rollout_command_to_wire(command: Command) -> Any:
    """The enum value of a command."""
    return enum_number(deployments_pb2.RolloutCommand.DESCRIPTOR, command.value)


def rollout_command_from_wire(number: int) -> Command:
    """The command. Raises InvalidInput for none, or one that this build does not know."""
    text = enum_text(deployments_pb2.RolloutCommand.DESCRIPTOR, number).lower()
    if text not in list(Command):
        raise InvalidInput.at("command", number, f"one of {', '.join(Command)}")
    return Command(text)


def change_to_wire(change: str) -> Any:
    """The enum value of ``ADDED``, ``MODIFIED`` or ``DELETED``."""
    return enum_number(common_pb2.WatchEventType.DESCRIPTOR, change)


def change_from_wire(number: int) -> str:
    """``ADDED``, ``MODIFIED`` or ``DELETED``."""
    return enum_text(common_pb2.WatchEventType.DESCRIPTOR, number)


def _message(kind: str, meta: resource.ObjectMeta, body: Any, status: Mapping[str, Any]) -> Any:
    message = _KINDS[kind].message()
    fill(message.metadata, meta, "metadata")
    message.spec.SetInParent()
    fill(message.spec, body, "spec")
    status_type = _KINDS[kind].status
    if status_type is not None and status:
        fill(message.status, decode(status_type, status, "status"), "status")
    return message


def _meta(record: RecordLike) -> resource.ObjectMeta:
    return resource.ObjectMeta(
        record.name, record.labels, record.uid, record.generation, record.revision, record.created_at, record.updated_at
    )


def _checked(message: Any, message_class: type[M]) -> M:
    if not isinstance(message, message_class):
        raise TypeError(f"a {type(message).__name__} is no {message_class.__name__}")
    return message
