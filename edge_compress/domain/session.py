"""What an agent and the server say to each other over a session, as values that refuse to exist when they make no sense.

An agent is not trusted: every text, label and figure of it is bounded here. What follows from these values is decided in
``delivery``; how they travel is the border's business.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edge_compress.domain.artifact import Artifact
from edge_compress.domain.fleet import DeviceFacts, DeviceState
from edge_compress.domain.spec import Metadata, check_name
from edge_compress.errors import InvalidInput


def _rising(first: float, ratio: float, last: float) -> Iterator[float]:
    """From ``first`` on, each ``ratio`` times the one before in three digits, below ``last``."""
    bound = first
    while bound < last:
        yield bound
        bound = float(f"{bound * ratio:.3g}")


LATENCY_BOUNDS: tuple[float, ...] = (*_rising(50e-6, 1.5, 10.0), 10.0)
"""Seconds. What agents count in by default and what the server adds up in, so that the sums are exact."""

ENERGY_SOURCES = frozenset({"rapl", "ina", "hwmon", "battery", "nvml", "external", "estimate"})
OUTCOMES = frozenset({"ok", "error"})
MOST_BUCKETS = 64
_STATES = tuple(state.value for state in DeviceState)
_MOST_METERS = 16
_MOST_LABELS = 64
_LARGEST_COUNT = 2**53
_LARGEST_FIGURE = 1e15
_WORD = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}$")
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Hello:
    """Begins a session. ``assignment``, ``state`` and ``current_sha256`` are what the agent's journal says; empty: none yet."""

    device: str
    profile: str
    boot_id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    agent_version: str = ""
    runtime_version: str = ""
    machine: str = ""
    current_sha256: str = ""
    assignment: str = ""
    state: str = ""
    facts: DeviceFacts = DeviceFacts()

    def __post_init__(self) -> None:
        check_name(self.device, "hello.device")
        check_name(self.profile, "hello.profile")
        if len(self.labels) > _MOST_LABELS:
            raise InvalidInput.at("hello.labels", len(self.labels), f"at most {_MOST_LABELS} labels")
        Metadata(self.device, self.labels)
        _check_word("hello.boot_id", self.boot_id)
        for name in ("agent_version", "runtime_version", "machine", "assignment"):
            _check_word(f"hello.{name}", getattr(self, name), optional=True)
        _check_digest("hello.current_sha256", self.current_sha256)
        if self.state:
            _check_state("hello.state", self.state)
        for name in ("cores", "memory_bytes", "storage_bytes"):
            _check_count(f"hello.facts.{name}", getattr(self.facts, name))
        if len(self.facts.runtimes) > _MOST_LABELS:
            raise InvalidInput.at("hello.facts.runtimes", len(self.facts.runtimes), f"at most {_MOST_LABELS} runtimes")
        for name in self.facts.runtimes:
            _check_word("hello.facts.runtimes", name)

    @property
    def device_state(self) -> DeviceState:
        """Where the device stands with its assignment; Idle when it has none."""
        return DeviceState(self.state) if self.state else DeviceState.IDLE


@dataclass(frozen=True)
class Move:
    """A move of an agent's state machine that is in its journal already."""

    assignment: str
    state: str
    message: str = ""
    current_sha256: str = ""
    p95_seconds: float | None = None
    peak_memory_bytes: int | None = None
    waits: bool = False
    bad_differences: int = 0

    def __post_init__(self) -> None:
        _check_count("move.bad_differences", self.bad_differences)
        _check_word("move.assignment", self.assignment)
        _check_state("move.state", self.state)
        _check_digest("move.current_sha256", self.current_sha256)
        if self.p95_seconds is not None:
            _check_figure("move.p95_seconds", self.p95_seconds)
        if self.peak_memory_bytes is not None:
            _check_count("move.peak_memory_bytes", self.peak_memory_bytes)
        object.__setattr__(self, "message", " ".join(self.message.split())[:500])


@dataclass(frozen=True)
class Assignment:
    """What a device is to run, and the limits it must hold it to. ``None``: no limit. Bytes, seconds, inferences a second."""

    id: str
    deployment: str
    rollout: str
    artifact: Artifact
    latency_p95_seconds: float | None = None
    memory_bytes: int | None = None
    threads: int = 1
    self_test_per_second: float = 0.0
    cohort: str = ""
    fallbacks: tuple[Artifact, ...] = ()
    """next-best ones, for a device that the first one turns out not to fit"""
    differences_only: bool = False
    """take it as differences to what the device has, or not at all"""
    bytes_per_second: float = 0.0
    """that the download may take; 0: as many as come"""

    def may_run(self, sha256: str) -> bool:
        """Whether a device that runs this has carried it out."""
        return sha256 in (self.artifact.sha256, *(one.sha256 for one in self.fallbacks))


@dataclass(frozen=True)
class EnergyReading:
    """Joules that one meter counted since the agent's boot. ``scope`` is what it covers: process, package, board …"""

    source: str
    scope: str
    joules: float

    def __post_init__(self) -> None:
        if self.source not in ENERGY_SOURCES:
            raise InvalidInput.at("report.energy.source", self.source, f"one of {', '.join(sorted(ENERGY_SOURCES))}")
        _check_word("report.energy.scope", self.scope)
        _check_figure("report.energy.joules", self.joules)


@dataclass(frozen=True)
class UsageReport:
    """Running totals for one artifact since the agent's boot. Totals never fall within a boot, so order and repeats do no harm.

    ``bucket_counts`` are per bucket, not cumulated, and one more than ``bucket_bounds``, the upper bounds in seconds.
    """

    boot_id: str
    model: str
    version: str
    cohort: str = ""
    inferences: Mapping[str, int] = field(default_factory=dict)
    bucket_bounds: tuple[float, ...] = ()
    bucket_counts: tuple[int, ...] = ()
    duration_sum: float = 0.0
    energy: tuple[EnergyReading, ...] = ()
    peak_memory_bytes: int | None = None
    reported_at: float = 0.0

    def __post_init__(self) -> None:
        _check_word("report.boot_id", self.boot_id)
        check_name(self.model, "report.model")
        _check_word("report.version", self.version)
        _check_word("report.cohort", self.cohort, optional=True)
        for outcome, count in self.inferences.items():
            if outcome not in OUTCOMES:
                raise InvalidInput.at("report.inferences", outcome, f"one of {', '.join(sorted(OUTCOMES))}")
            _check_count(f"report.inferences.{outcome}", count)
        _check_buckets(self.bucket_bounds, self.bucket_counts)
        _check_figure("report.duration_sum", self.duration_sum)
        _check_meters(self.energy)
        if self.peak_memory_bytes is not None:
            _check_count("report.peak_memory_bytes", self.peak_memory_bytes)


def _check_word(at: str, value: str, *, optional: bool = False) -> None:
    if not (value == "" and optional) and not _WORD.match(value):
        raise InvalidInput.at(at, value, "at most 128 letters, digits and ._:/+-")


def _check_digest(at: str, value: str) -> None:
    if value and not _DIGEST.match(value):
        raise InvalidInput.at(at, value, "64 lower case hexadecimal digits")


def _check_state(at: str, value: str) -> None:
    if value not in _STATES:
        raise InvalidInput.at(at, value, f"one of {', '.join(_STATES)}")


def _check_count(at: str, value: int) -> None:
    if not 0 <= value <= _LARGEST_COUNT:
        raise InvalidInput.at(at, value, "a count from 0 to 2^53")


def _check_figure(at: str, value: float) -> None:
    if not math.isfinite(value) or not 0 <= value <= _LARGEST_FIGURE:
        raise InvalidInput.at(at, value, f"a finite figure from 0 to {_LARGEST_FIGURE:g}")


def _check_buckets(bounds: tuple[float, ...], counts: tuple[int, ...]) -> None:
    if len(counts) > MOST_BUCKETS:
        raise InvalidInput.at("report.bucket_counts", len(counts), f"at most {MOST_BUCKETS} buckets")
    if len(counts) != (len(bounds) + 1 if bounds else 0):
        raise InvalidInput.at("report.bucket_counts", len(counts), f"one more than the {len(bounds)} bounds")
    for bound in bounds:
        _check_figure("report.bucket_bounds", bound)
    if any(low >= high for low, high in itertools.pairwise(bounds)):
        raise InvalidInput.at("report.bucket_bounds", bounds, "rising bounds")
    for count in counts:
        _check_count("report.bucket_counts", count)


def _check_meters(readings: Iterable[EnergyReading]) -> None:
    seen = [(reading.source, reading.scope) for reading in readings]
    if len(seen) > _MOST_METERS or len(set(seen)) != len(seen):
        raise InvalidInput.at("report.energy", len(seen), f"at most {_MOST_METERS} meters, each once")
