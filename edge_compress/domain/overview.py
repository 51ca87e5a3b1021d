"""The fleet at a glance: devices by profile, what they did in the last minute, rollouts under way; and one device's last hour.

Values only; ``delivery.overview`` and ``delivery.histories`` find them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figures:
    """What some devices did of late. ``None``: nothing is known."""

    inferences_per_second: float = 0.0
    errors_per_second: float = 0.0
    p95_seconds: float | None = None
    joules_per_inference: float | None = None
    energy_source: str = ""


@dataclass(frozen=True)
class VersionOverview:
    """One version of a model on the devices of a profile that run it now."""

    model: str
    version: str
    devices: int = 0
    recent: Figures = Figures()


@dataclass(frozen=True)
class ProfileOverview:
    """Devices of a profile by state, Disconnected where they have no session, and the versions that they run or ran of late."""

    profile: str
    devices: Mapping[str, int] = field(default_factory=dict, metadata={"free": True})
    recent: Figures = Figures()
    versions: tuple[VersionOverview, ...] = ()


@dataclass(frozen=True)
class RolloutOverview:
    """A rollout that is neither completed nor superseded. ``step`` counts from 1; ``steps`` 0: its deployment is gone."""

    name: str
    state: str
    step: int = 1
    steps: int = 0
    share: float = 0.0
    verdict: str = ""
    """the worst of its gates; empty: none has looked yet"""
    message: str = ""
    devices: Mapping[str, int] = field(default_factory=dict, metadata={"free": True})


@dataclass(frozen=True)
class FleetOverview:
    """Everything, by name. Figures are of the last ``window_seconds``."""

    window_seconds: float = 0.0
    profiles: tuple[ProfileOverview, ...] = ()
    rollouts: tuple[RolloutOverview, ...] = ()


@dataclass(frozen=True)
class HistoryPoint:
    """What a device did in one minute: means of an inference; ``None``: none, or no meter. ``at``: its end, since the epoch."""

    at: float
    mean_seconds: float | None = None
    joules_per_inference: float | None = None


@dataclass(frozen=True)
class DeviceHistory:
    """The last hour of a device as far as the server saw it, oldest first, up to now."""

    points: tuple[HistoryPoint, ...] = ()
