"""From model facts and a profile to the candidates worth running, in order, and every reason why others are not."""

from __future__ import annotations

from dataclasses import dataclass

from edge_compress.domain.artifact import AppliedStep


@dataclass(frozen=True)
class Prediction:
    """What a candidate should cost before anything is run; ``None`` where nothing is known. Base units."""

    bytes: int | None = None
    download_bytes: int | None = None
    latency_seconds: float | None = None
    memory_bytes: int | None = None
    energy_joules: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A pipeline to try. No steps: the original as it is."""

    steps: tuple[AppliedStep, ...]
    predicted: Prediction = Prediction()


@dataclass(frozen=True)
class Refusal:
    """A pipeline that is not tried, and why."""

    steps: tuple[AppliedStep, ...]
    why: str
    predicted: Prediction = Prediction()


@dataclass(frozen=True)
class Plan:
    """What would be tried for one (model, profile) pair, most promising first."""

    model: str
    profile: str
    objective: str
    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...] = ()
