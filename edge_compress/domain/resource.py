"""Resources as the server shows them: identity, what was declared, and what became of it; and the answers it gives about them.

Clients get these frozen values back. What may be declared is ``spec``'s business, how they travel is ``wire``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ObjectMeta:
    """Identity of a stored resource. Times are seconds since the epoch."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    generation: int = 0
    """rises with each change of the spec, from 1"""
    revision: int = 0
    """position in the store's one sequence of changes"""
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True)
class Condition:
    """One aspect of a resource's state, as in Kubernetes. ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition: float = 0.0
    """seconds since the epoch"""


@dataclass(frozen=True)
class ResourceStatus:
    """State of a declared resource: the status mapping of its record is ``encode`` of this."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A resource as the server holds it. ``spec`` and ``status`` are the kind's own frozen values; None: it has no status."""

    kind: str
    metadata: ObjectMeta
    spec: Any
    status: Any = None

    @property
    def name(self) -> str:
        """Unique within its kind."""
        return self.metadata.name


@dataclass(frozen=True)
class Change:
    """One watched change: ``ADDED``, ``MODIFIED`` or ``DELETED``."""

    type: str
    resource: Stored


@dataclass(frozen=True)
class PlannedChange:
    """What applying one resource would do: ``created``, ``configured`` or ``unchanged``."""

    kind: str
    name: str
    outcome: str


@dataclass(frozen=True)
class PlannedStep:
    """A strategy with its parameters, before anything is run."""

    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict, metadata={"free": True})


@dataclass(frozen=True)
class PlannedCandidate:
    """A pipeline that would be tried, or why it is ``refused``. Predictions in base units; ``None``: nothing is known."""

    steps: tuple[PlannedStep, ...] = ()
    refused: str = ""
    bytes: int | None = None
    download_bytes: int | None = None
    latency_seconds: float | None = None
    memory_bytes: int | None = None
    energy_joules: float | None = None


@dataclass(frozen=True)
class PlannedPair:
    """One model for one profile. ``cached``: the artifact exists already and nothing would be computed."""

    model: str
    profile: str
    deployment: str = ""
    devices: int = 0
    candidates: tuple[PlannedCandidate, ...] = ()
    bytes_to_send: int = 0
    cached: bool = False
    job: str = ""
    """name of the job that does this work, or did it; empty: not known"""
    away: int = 0
    """of the devices, those without a session now"""
    unfit: int = 0
    """of the devices, those for which there is nothing that keeps their profile's limits"""
    metered_bytes: int = 0
    """of the bytes to send, those over metered links; at most, for updates travel as differences"""
    expected_seconds: float | None = None
    """until the rollout is through, should nothing fail: downloads, tries and soaks of its steps; None: the link's bandwidth is
    not declared"""
    now_p95_seconds: float | None = None
    """median of what the devices run now, as they measured it; None: nothing yet"""
    now_joules: float | None = None
    """the same of an inference's energy"""
    download_bytes: int | None = None
    """of the artifact that exists already, to a device that has nothing like it; None: nothing was made"""
    update_bytes: int | None = None
    """the same to a device that runs ``previous``; None: nothing was made, or nothing was delivered before"""
    previous: str = ""
    """name of the artifact that most of the devices run, or ran when the job was made; empty: none"""
    artifact: str = ""
    """name of what was made; empty: nothing yet"""
    held: int = 0
    """of the devices, those that the policy keeps waiting: their metered links carry differences, which would be too large"""
    fresh_update_bytes: int | None = None
    """what ``update_bytes`` would be with scales of its own; None: it has them, or nobody measured that"""


@dataclass(frozen=True)
class PlanPreview:
    """What would change if some documents were applied."""

    changes: tuple[PlannedChange, ...] = ()
    pairs: tuple[PlannedPair, ...] = ()


@dataclass(frozen=True)
class PluginParameter:
    """A parameter of a strategy. ``default_json`` is empty when it must be given."""

    name: str
    type: str = ""
    unit: str = ""
    default_json: str = ""
    doc: str = ""


@dataclass(frozen=True)
class PluginOffer:
    """One thing a plugin registered: a strategy, target, quality_metric, gate_metric, energy_meter or architecture."""

    kind: str
    name: str
    summary: str = ""
    parameters: tuple[PluginParameter, ...] = ()


@dataclass(frozen=True)
class Plugin:
    """One plugin that was found; ``error`` is empty when it loaded."""

    name: str
    distribution: str = ""
    version: str = ""
    error: str = ""
    offers: tuple[PluginOffer, ...] = ()
