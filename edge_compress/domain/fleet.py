"""Devices: the states an artifact moves through on one, and what a device tells of itself."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_compress.errors import Conflict

DISCONNECTED = "Disconnected"
"""what a device counts as that has no session, wherever it stood"""


class DeviceState(enum.StrEnum):
    """Where a device stands with its newest assignment."""

    IDLE = "Idle"
    PREFLIGHT = "Preflight"
    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    STAGED = "Staged"
    PROBING = "Probing"
    TRIAL = "Trial"
    COMMITTED = "Committed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"


_FORWARD = [
    DeviceState.PREFLIGHT,
    DeviceState.FETCHING,
    DeviceState.VERIFYING,
    DeviceState.STAGED,
    DeviceState.PROBING,
    DeviceState.TRIAL,
    DeviceState.COMMITTED,
]

MOVES: dict[DeviceState, frozenset[DeviceState]] = {
    DeviceState.IDLE: frozenset({DeviceState.PREFLIGHT}),
    **{here: frozenset({there, DeviceState.ROLLING_BACK, DeviceState.PREFLIGHT}) for here, there in itertools.pairwise(_FORWARD)},
    DeviceState.COMMITTED: frozenset({DeviceState.PREFLIGHT, DeviceState.ROLLING_BACK}),
    DeviceState.ROLLING_BACK: frozenset({DeviceState.ROLLED_BACK}),
    DeviceState.ROLLED_BACK: frozenset({DeviceState.PREFLIGHT}),
}
"""Allowed moves. A newer assignment restarts at PREFLIGHT from anywhere but in the middle of a roll-back."""


def check_move(old: DeviceState, new: DeviceState) -> None:
    """Raise Conflict unless ``old`` may become ``new``."""
    if new not in MOVES[old]:
        raise Conflict(f"a device that is {old} cannot become {new}")


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says it has; 0, None and empty: it does not say. Bytes throughout."""

    cores: int = 0
    memory_bytes: int = 0
    storage_bytes: int = 0
    int8_dot_product: bool | None = None
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeviceSpec:
    """What a device says it is when it joins."""

    profile: str
    labels: Mapping[str, str] = field(default_factory=dict)
    agent_version: str = ""
    runtime_version: str = ""
    machine: str = ""
    """processor architecture, as `uname -m` says it"""
    facts: DeviceFacts = DeviceFacts()


@dataclass(frozen=True)
class DeviceStatus:
    """What the server knows of a device. ``artifact`` and ``version`` are what it really runs (reported, not desired)."""

    state: str = DeviceState.IDLE.value
    connected: bool = False
    boot_id: str = ""
    last_seen: float = 0.0
    model: str = ""
    artifact: str = ""
    version: str = ""
    assignment: str = ""
    message: str = ""
    p95_seconds: float | None = None
    joules_per_inference: float | None = None
    energy_source: str = ""
    inferences: int = 0
    offered: str = ""
    """assignment that the server wants it to carry out; ``assignment`` is the one it speaks of itself"""
    news_at: float = 0.0
    """when that was offered, or when the device last made a move towards it"""
    failures: int = 0
    """updates in a row that it rolled back"""
    failed_at: float = 0.0
    """when it last did; seconds since the epoch"""
    waits: bool = False
    """in Preflight, for a reason of its own that ``message`` says"""
    drift: tuple[str, ...] = ()
    """in what it contradicts its profile, in words"""
    made_for: str = ""
    """profile that its artifacts are made for, where it contradicts the one it names"""
    bad_differences: int = 0
    """updates as differences that came out wrong since it joined first"""
    wrong_here: int = 0
    """the same of the present assignment"""
