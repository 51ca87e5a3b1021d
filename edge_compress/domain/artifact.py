"""What compression yields: measurements of a candidate, why it lost, the verdict for a profile, and the published artifact."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_compress.domain.layers import LayerReport


class Verdict(enum.StrEnum):
    """Whether every goal of a profile is met."""

    FEASIBLE = "FEASIBLE"
    INFEASIBLE = "INFEASIBLE"


class Source(enum.StrEnum):
    """Where a latency or memory figure comes from."""

    MEASURED_HERE = "measured-here"
    MEASURED_ON_DEVICE = "measured-on-device"
    PREDICTED = "predicted"


@dataclass(frozen=True)
class Quality:
    """Quality against the float original, on the same samples. All values are fractions."""

    metric: str
    reference: float
    value: float
    drop: float
    """positive: worse than the original"""
    samples: int
    confidence95: tuple[float, float]
    """interval of ``value``"""


@dataclass(frozen=True)
class Latency:
    """Seconds of one inference with a batch of one."""

    p50: float
    p95: float
    source: str = Source.MEASURED_HERE.value
    ratio_to_float: float | None = None
    """median over interleaved rounds in one process, so that it holds while the machine's speed drifts"""
    cpu_seconds: float | None = None
    """processor time of one inference, all threads"""
    cpu_ratio: float | None = None
    """processor time beside the original's, from the same interleaved rounds"""


@dataclass(frozen=True)
class Energy:
    """Joules of one inference. ``None`` when there is neither a meter nor declared watts: never 0."""

    joules: float | None = None
    source: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Everything known of one candidate; ``None`` where it was not measured because it had already lost."""

    sha256: str = ""
    bytes: int = 0
    download_bytes: int | None = None
    """on the link, for a device that has nothing like it"""
    quality: Quality | None = None
    latency: Latency | None = None
    peak_memory_bytes: int | None = None
    energy: Energy = Energy()
    update_bytes: int | None = None
    """on the link, for a device that runs the artifact delivered before; None: there is none"""


@dataclass(frozen=True)
class AppliedStep:
    """A strategy with every parameter as it was used."""

    strategy: str
    version: str = ""
    params: Mapping[str, Any] = field(default_factory=dict, metadata={"free": True})


@dataclass(frozen=True)
class CandidateResult:
    """One candidate that was considered: run or refused, and what became of it."""

    steps: tuple[AppliedStep, ...]
    state: str
    """chosen | lost | refused | failed | skipped"""
    why: str = ""
    measurement: Measurement = Measurement()
    predicted: Mapping[str, Any] = field(default_factory=dict, metadata={"free": True})
    log: tuple[str, ...] = ()
    """last lines a failed step wrote; else what its steps diagnosed and repaired"""
    prediction: Mapping[str, Any] = field(default_factory=dict, metadata={"free": True})
    """predictions in the report's units with their errors (predicted / measured - 1); empty where nothing was measured"""
    uncorrected: Measurement | None = None
    """what ``measurement`` was before what devices reported corrected it; None: nothing did"""


@dataclass(frozen=True)
class Limits:
    """What a profile and a model ask for, as the verdict was judged by; None where nothing was asked."""

    storage: int | None = None
    """bytes installed"""
    memory: int | None = None
    """bytes at the peak"""
    latency_p95: float | None = None
    """seconds"""
    max_drop: float | None = None
    """of quality, as an absolute fraction"""


@dataclass(frozen=True)
class Facts:
    """What the original is, for a batch of one; 0 where its shapes are unknown."""

    macs: int = 0
    parameters: int = 0
    weight_bytes: int = 0
    peak_activation_bytes: int = 0
    """largest sum of activations that live at once"""


@dataclass(frozen=True)
class Outcome:
    """What became of one (model, profile) pair."""

    model: str
    profile: str
    verdict: str
    binding_constraint: str | None
    """quality | storage | memory | latency_p95 | power_budget | precision | runtime; None when feasible"""
    gap: str | None
    """how far the nearest artifact is from the goal, in words with figures"""
    chosen: CandidateResult | None
    candidates: tuple[CandidateResult, ...]
    float_baseline: Measurement
    objective: str = "latency"
    seconds: float = 0.0
    diagnosis: tuple[str, ...] = ()
    layers: tuple[LayerReport, ...] = ()
    """layers of the original and what became of each; empty in outcomes of before they were told"""
    limits: Limits = Limits()
    facts: Facts = Facts()


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs with the outputs they must give on the device: an .npz of ``in/<name>`` and ``out/<name>`` arrays."""

    sha256: str
    bytes: int
    samples: int
    rtol: float
    atol: float
    """an element passes when |got - want| <= atol + rtol * |want|; set by the strategies that made the artifact"""


@dataclass(frozen=True)
class Artifact:
    """A published artifact: an immutable file with what the device must hold it to. Its name is ``<model>-<sha256[:12]>``."""

    name: str
    model: str
    profile: str
    sha256: str
    bytes: int
    download_bytes: int
    runtime: str
    golden: GoldenVectors
    recipe: tuple[AppliedStep, ...] = ()
    version: str = ""
    """short digest that metrics and people use"""
    expected: Measurement = Measurement()
    file_name: str = "model.onnx"
    """what the file is called on a device; the target decides"""
