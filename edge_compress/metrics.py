"""Every Prometheus series of the server, named once.

Counts that arise here (bytes sent, steps run, reports dropped) are kept here; what others know already (usage, devices, jobs,
rollouts) is asked of them when Prometheus asks. A series of which nothing is known is absent, never 0. Series of single devices
are made in ``device_metrics``; how text is written is left to ``exposition``, how it is served to ``metrics_http``.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_compress import __version__
from edge_compress.exposition import Family, histogram, sample
from edge_compress.store.interface import UsageTotals

PREFIX = "edge_compress_"
LABELS = ("profile", "model", "version", "cohort")
STEP_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Seconds of a compression step."""

SERIES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "inference_duration_seconds": ("histogram", LABELS, "Duration of inferences on devices."),
    "inferences_total": ("counter", (*LABELS, "outcome"), "Inferences on devices, by how they ended."),
    "energy_joules_total": ("counter", (*LABELS, "source", "scope"), "Energy that inferences drew, by meter and what it covers."),
    "devices": ("gauge", ("state",), "Devices by where they stand with their newest artifact; Disconnected: no session."),
    "transfer_bytes_total": ("counter", ("kind",), "Bytes of blobs sent, as they went over the link: full, delta or resumed."),
    "rollout_devices": ("gauge", ("rollout", "step", "state"), "Devices of a rollout by where they stand with its artifact."),
    "rollout_state": ("gauge", ("rollout", "state"), "1 for the state that a rollout is in; superseded ones are absent."),
    "jobs": ("gauge", ("state",), "Compression jobs by state."),
    "job_duration_seconds": ("histogram", ("strategy", "outcome"), "Duration of compression steps."),
    "prediction_error_ratio": (
        "gauge",
        ("quantity",),
        "How far predictions were off: a share of what was reported.",
    ),
    "wrong_differences_total": ("counter", ("found_by",), "Updates as differences that came out wrong and were noticed."),
    "reports_dropped_total": ("counter", ("reason",), "Usage reports of devices that were not counted."),
    "build_info": ("gauge", ("version",), "Version of the running server; always 1."),
}
"""Name without the prefix -> type, labels, help. The contract's always-on list and what was added to it."""

DEVICE_LABELS = ("device", "profile", "model", "version")
DEVICE_SERIES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "device_inferences_total": (
        "counter",
        (*DEVICE_LABELS, "outcome"),
        "Inferences of a device with what it runs, by how they ended.",
    ),
    "device_inference_duration_seconds_total": ("counter", DEVICE_LABELS, "Time that these inferences took in all."),
    "device_energy_joules_total": (
        "counter",
        (*DEVICE_LABELS, "source", "scope"),
        "Energy that they drew, by meter and what it covers.",
    ),
    "device_inference_p95_seconds": ("gauge", DEVICE_LABELS, "Time within which 95% of them were done."),
    "device_last_seen_timestamp_seconds": ("gauge", DEVICE_LABELS, "When a device last said something, since the epoch."),
    "device_connected": ("gauge", (*DEVICE_LABELS, "state"), "Whether a device has a session: 1 or 0; where it stands."),
    "device_series_dropped_total": ("counter", (), "Series left out of answers because the bound was reached."),
}
"""The same of single devices, at an address of their own."""


@dataclass
class Sources:
    """Who knows what is not counted here. Each is called from the thread that serves a scrape."""

    usage: Callable[[], Iterable[tuple[Sequence[str], UsageTotals]]] = lambda: ()
    """LABELS and sums"""
    devices: Callable[[], Mapping[str, int]] = dict
    """state -> devices"""
    jobs: Callable[[], Mapping[str, int]] = dict
    """state -> jobs"""
    rollouts: Callable[[], Mapping[tuple[str, ...], int]] = dict
    """(rollout, step, state) -> devices"""
    rollout_states: Callable[[], Mapping[str, str]] = dict
    """rollout -> state"""
    predictions: Callable[[], Mapping[str, float]] = dict
    """quantity -> relative error"""


@dataclass
class _Durations:
    counts: list[int] = field(default_factory=lambda: [0] * (len(STEP_BOUNDS) + 1))
    total: float = 0.0


class Metrics:
    """The server's series. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.sources = Sources()
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._steps: dict[tuple[str, str], _Durations] = {}

    def sent(self, kind: str, amount: int) -> None:
        """Bytes of a blob went out, packed as they were; ``kind`` is full, delta or resumed."""
        with self._lock:
            self._bytes[kind] += amount

    def wrong_differences(self, count: int) -> None:
        """Updates as differences came out wrong on devices."""
        with self._lock:
            self._wrong["device"] += count

    def step(self, strategy: str, outcome: str, seconds: float) -> None:
        """A compression step ended."""
        with self._lock:
            durations = self._steps.setdefault((strategy, outcome), _Durations())
            durations.counts[bisect.bisect_left(STEP_BOUNDS, seconds)] += 1
            durations.total += seconds

    def dropped(self, reason: str, count: int = 1) -> None:
        """Usage reports were not counted."""
        with self._lock:
            self._dropped[reason] += count

    def families(self) -> list[Family]:
        """Every family, those of which nothing is known without lines."""
        return [*self._usage(), *self._counted(), *self._states(), _family("build_info", {(__version__,): 1})]

    def _usage(self) -> list[Family]:
        durations: list[str] = []
        inferences: dict[tuple[str, ...], float] = {}
        energy: dict[tuple[str, ...], float] = {}
        for labels, sums in self.sources.usage():
            if sums.bucket_counts:
                pairs = tuple(zip(LABELS, labels, strict=True))
                durations += histogram(_DURATIONS, pairs, sums.bucket_bounds, sums.bucket_counts, sums.duration_sum)
            inferences |= {(*labels, outcome): count for outcome, count in sums.inferences.items()}
            energy |= {(*labels, *_source_and_scope(meter)): joules for meter, joules in sums.energy.items()}
        timed = Family(_DURATIONS, "histogram", SERIES["inference_duration_seconds"][2], durations)
        return [timed, _family("inferences_total", inferences), _family("energy_joules_total", energy)]

    def _counted(self) -> list[Family]:
        kind, names, text = SERIES["job_duration_seconds"]
        name, lines = f"{PREFIX}job_duration_seconds", list[str]()
        with self._lock:
            for labels, durations in sorted(self._steps.items()):
                lines += histogram(name, tuple(zip(names, labels, strict=True)), STEP_BOUNDS, durations.counts, durations.total)
            counted = {
                "transfer_bytes_total": self._bytes,
                "reports_dropped_total": self._dropped,
                "wrong_differences_total": self._wrong,
            }
            return [*(_family(name, _by_one(counts)) for name, counts in counted.items()), Family(name, kind, text, lines)]

    def _states(self) -> list[Family]:
        return [
            _family("devices", _by_one(self.sources.devices())),
            _family("jobs", _by_one(self.sources.jobs())),
            _family("rollout_devices", self.sources.rollouts()),
            _family("rollout_state", dict.fromkeys(self.sources.rollout_states().items(), 1)),
            _family("prediction_error_ratio", _by_one(self.sources.predictions())),
        ]


_DURATIONS = f"{PREFIX}inference_duration_seconds"


def _family(name: str, values: Mapping[tuple[str, ...], float]) -> Family:
    """A counter or gauge: label values -> value."""
    kind, labels, text = SERIES[name]
    lines = [sample(PREFIX + name, zip(labels, key, strict=True), value) for key, value in sorted(values.items())]
    return Family(PREFIX + name, kind, text, lines)


def _by_one(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(key,): value for key, value in values.items()}


def _source_and_scope(meter: str) -> tuple[str, str]:
    source, _, scope = meter.partition("/")
    return source, scope
