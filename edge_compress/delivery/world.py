"""What users declared and what became of it, read from the store at one moment, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_compress.delivery.calibrator import corrections_of
from edge_compress.domain.artifact import Artifact
from edge_compress.domain.calibration import Corrections
from edge_compress.domain.job import JobSpec, JobStatus
from edge_compress.domain.resource import ResourceStatus
from edge_compress.domain.rollout import RolloutSpec, RolloutStatus
from edge_compress.domain.schema import decode
from edge_compress.domain.spec import (
    Deployment,
    DeploymentSpec,
    DeviceProfile,
    DeviceProfileSpec,
    Metadata,
    Model,
    ModelSpec,
    Recipe,
    RecipeSpec,
)
from edge_compress.store.interface import Record, ResourceStore

ADOPTION = "Adoption"
"""kind of the records of corrections that jobs are made with"""


@dataclass(frozen=True)
class StoredDeployment:
    """A deployment with what the store knows of it."""

    record: Record
    value: Deployment
    status: ResourceStatus

    @property
    def rollout(self) -> str:
        """Name of the rollout of this generation."""
        return f"{self.record.name}-{self.record.generation}"


@dataclass(frozen=True)
class StoredRollout:
    """A rollout with what the store knows of it."""

    record: Record
    spec: RolloutSpec
    status: RolloutStatus


@dataclass(frozen=True)
class Job:
    """A compression job."""

    spec: JobSpec
    status: JobStatus


@dataclass(frozen=True)
class World:
    """Everything that decides what should happen next, but for the devices."""

    deployments: tuple[StoredDeployment, ...]
    profiles: Mapping[str, tuple[Record, DeviceProfile]]
    models: Mapping[str, tuple[Record, Model]]
    recipes: Mapping[str, tuple[Record, Recipe]]
    jobs: Mapping[str, Job]
    rollouts: Mapping[str, StoredRollout]
    artifacts: Mapping[str, Artifact]
    learned: Mapping[str, Corrections] = field(default_factory=dict)
    """profile -> what is known of it now"""
    adopted: Mapping[str, Corrections] = field(default_factory=dict)
    """by ``adoption``: what the jobs of a deployment are made with"""


def adoption(deployment_uid: str, profile: str) -> str:
    """Name of the record with the corrections that a deployment's jobs for a profile are made with."""
    return f"{deployment_uid}.{profile}"


def read_world(store: ResourceStore) -> World:
    """Read it all; blocks. Deployments come newest first, which is the order in which they may claim devices."""
    deployments = [_deployment(record) for record in store.list("Deployment").records]
    deployments.sort(key=lambda one: (one.record.created_at, one.record.name), reverse=True)
    return World(
        deployments=tuple(deployments),
        profiles={
            r.name: (r, DeviceProfile(_meta(r), decode(DeviceProfileSpec, r.spec))) for r in store.list("DeviceProfile").records
        },
        models={r.name: (r, Model(_meta(r), decode(ModelSpec, r.spec))) for r in store.list("Model").records},
        recipes={r.name: (r, Recipe(_meta(r), decode(RecipeSpec, r.spec))) for r in store.list("Recipe").records},
        jobs={r.name: Job(decode(JobSpec, r.spec), decode(JobStatus, r.status)) for r in store.list("Job").records},
        rollouts={r.name: stored_rollout(r) for r in store.list("Rollout").records},
        artifacts={r.name: decode(Artifact, r.spec) for r in store.list("Artifact").records},
        learned=corrections_of(store),
        adopted={r.name: decode(Corrections, r.spec) for r in store.list(ADOPTION).records},
    )


def _deployment(record: Record) -> StoredDeployment:
    value = Deployment(_meta(record), decode(DeploymentSpec, record.spec))
    return StoredDeployment(record, value, decode(ResourceStatus, record.status))


def stored_rollout(record: Record) -> StoredRollout:
    """The rollout in a record. Raises InvalidSpec."""
    return StoredRollout(record, decode(RolloutSpec, record.spec), decode(RolloutStatus, record.status))


def _meta(record: Record) -> Metadata:
    return Metadata(record.name, record.labels)
