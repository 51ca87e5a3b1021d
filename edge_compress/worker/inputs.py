"""What a (model, profile) pair brings to the worker: files by role, the metric to use, and the forms that tasks are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_compress.domain.calibration import Corrections
from edge_compress.domain.model import DataFacts, ModelFacts
from edge_compress.domain.schema import encode
from edge_compress.domain.spec import DeviceProfile, Model, ModelData, Recipe
from edge_compress.errors import InvalidData
from edge_compress.store.interface import BlobStore


@dataclass(frozen=True)
class PairRequest:
    """One model for one profile, and what is wanted of it. ``recipe`` None: the planner decides. ``previous``: sha256 of the
    artifact that the pair's devices run, to which updates should be small; empty: there is none. ``corrections``: what reports
    taught of the profile."""

    model: Model
    profile: DeviceProfile
    recipe: Recipe | None
    objective: str = "latency"
    seed: int = 0
    previous: str = ""
    corrections: Corrections = Corrections()


def model_digest(model: Model) -> str:
    """sha256 of the model file."""
    ref = model.spec.file(model.spec.source)
    if ref is None or not ref.sha256:
        raise InvalidData(f"spec.source: the file {model.spec.source!r} was not uploaded")
    return ref.sha256


def data_digest(model: Model, role: str) -> str | None:
    """sha256 of the file with a role, or None when the model declares none."""
    path = getattr(model.spec.data, role)
    if not path:
        return None
    ref = model.spec.file(path)
    if ref is None or not ref.sha256:
        raise InvalidData(f"spec.data.{role}: the file {path!r} was not uploaded")
    return ref.sha256


def evaluation_role(model: Model) -> str:
    """The role whose samples measure quality: evaluation, else calibration. Raises InvalidData when there are neither."""
    for role in ("evaluation", "calibration"):
        if getattr(model.spec.data, role):
            return role
    raise InvalidData("spec.data: read no samples, expected evaluation or calibration; without any, quality cannot be measured")


def source(model: Model, role: str, facts: ModelFacts, blobs: BlobStore) -> dict[str, Any] | None:
    """A data file in the form that tasks are sent, or None when there is none with this role."""
    sha256 = data_digest(model, role)
    if sha256 is None:
        return None
    return {"path": str(blobs.path(sha256)), **source_decides(model, role, facts)}


def source_decides(model: Model, role: str, facts: ModelFacts) -> dict[str, Any]:
    """How a data file becomes model inputs."""
    inputs = [encode(item) for item in facts.inputs]
    return {"role": role, "inputs": inputs, "preprocess": encode(model.spec.data.preprocess)}


def data_decides(model: Model, role: str, facts: ModelFacts) -> dict[str, Any]:
    """All that decides which samples a task sees."""
    return {"sha256": data_digest(model, role), **source_decides(model, role, facts)}


def metric_name(model: Model, data: dict[str, DataFacts]) -> str:
    """The metric asked for; else top1 with labels and agreement with the original without."""
    asked = model.spec.quality.metric
    return asked or ("top1" if data[evaluation_role(model)].labelled else "agreement")


def have(model: Model, data: dict[str, DataFacts]) -> list[str]:
    """What strategies may count on: calibration, training, labels."""
    found = [role for role in ModelData.ROLES if role in data]
    trained_on = data.get("training") or data.get("calibration")  # as a step's context has it
    if trained_on is not None and trained_on.labelled:
        found.append("labels")
    return found
