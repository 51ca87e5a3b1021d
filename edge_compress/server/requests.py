"""From the names in a job to the values the engine works on."""

from __future__ import annotations

from typing import Any

from edge_compress.domain import spec
from edge_compress.domain.job import JobSpec
from edge_compress.domain.schema import decode
from edge_compress.store.interface import Record, ResourceStore
from edge_compress.worker.engine import PairRequest


def request_of(store: ResourceStore, job: JobSpec) -> PairRequest:
    """The work of a job, from the resources as they are stored now. Raises NotFound when one of them is gone."""
    recipe = None if job.recipe == "auto" else declared(store.get("Recipe", job.recipe))
    model, profile = declared(store.get("Model", job.model)), declared(store.get("DeviceProfile", job.profile))
    return PairRequest(model, profile, recipe, job.objective, previous=job.previous, corrections=job.corrections)


def declared(record: Record) -> Any:
    """The declared resource (DeviceProfile, Model, Recipe or Deployment) that a record holds."""
    body = {"metadata": {"name": record.name, "labels": dict(record.labels)}, "spec": dict(record.spec)}
    return decode(spec.KINDS[record.kind], body)
