"""Every Prometheus series of the server, named once.

Counts that arise here (bytes sent, steps run, reports dropped) are kept here; what others know already (usage, devices, jobs,
rollouts) is asked of them when Prometheus asks. A series of which nothing is known is absent, never 0. How it is served is left
to ``metrics_http``.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from edge_compress import __version__
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
    "prediction_error_ratio": ("gauge", ("quantity",), "Mean of |predicted - measured| / measured over the chosen artifacts."),
    "wrong_differences_total": ("counter", ("found_by",), "Updates as differences that came out wrong and were noticed."),
    "reports_dropped_total": ("counter", ("reason",), "Usage reports of devices that were not counted."),
    "build_info": ("gauge", ("version",), "Version of the running server; always 1."),
}
"""Name without the prefix -> type, labels, help. The contract's always-on list and what was added to it."""


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
    """quantity -> mean relative error"""


@dataclass
class _Durations:
    counts: list[int] = field(default_factory=lambda: [0] * (len(STEP_BOUNDS) + 1))
    total: float = 0.0


class Metrics(Collector):
    """The server's series, on a registry of their own. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sources = Sources()
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._steps: dict[tuple[str, str], _Durations] = {}
        self.registry.register(self)

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

    def describe(self) -> list[Metric]:
        """Every family without samples, so that registering asks no source."""
        makers: dict[str, Callable[[str], Metric]] = {"counter": _counter, "gauge": _gauge, "histogram": _histogram}
        return [makers[kind](name) for name, (kind, _, _) in SERIES.items()]

    def collect(self) -> Iterator[Metric]:
        """Every family of which something is known."""
        made = [*self._usage(), *self._counted(), *self._states(), _gauge("build_info", {(__version__,): 1})]
        return (family for family in made if family.samples)

    def _usage(self) -> list[Metric]:
        durations, inferences = _histogram("inference_duration_seconds"), _counter("inferences_total")
        energy = _counter("energy_joules_total")
        for labels, sums in self.sources.usage():
            if sums.bucket_counts:
                durations.add_metric(labels, _cumulated(sums.bucket_bounds, sums.bucket_counts), sums.duration_sum)
            for outcome, count in sorted(sums.inferences.items()):
                inferences.add_metric([*labels, outcome], count)
            for meter, joules in sorted(sums.energy.items()):
                source, _, scope = meter.partition("/")
                energy.add_metric([*labels, source, scope], joules)
        return [durations, inferences, energy]

    def _counted(self) -> list[Metric]:
        steps = _histogram("job_duration_seconds")
        with self._lock:
            for labels, durations in sorted(self._steps.items()):
                steps.add_metric(labels, _cumulated(STEP_BOUNDS, durations.counts), durations.total)
            counted = [_counter("transfer_bytes_total", self._bytes), _counter("reports_dropped_total", self._dropped)]
            return [*counted, _counter("wrong_differences_total", self._wrong), steps]

    def _states(self) -> list[Metric]:
        return [
            _gauge("devices", {(state,): count for state, count in self.sources.devices().items()}),
            _gauge("jobs", {(state,): count for state, count in self.sources.jobs().items()}),
            _gauge("rollout_devices", self.sources.rollouts()),
            _gauge("rollout_state", dict.fromkeys(self.sources.rollout_states().items(), 1)),
            _gauge("prediction_error_ratio", {(quantity,): error for quantity, error in self.sources.predictions().items()}),
        ]


def _counter(name: str, values: Mapping[str, float] | None = None) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + name, SERIES[name][2], labels=SERIES[name][1])
    for label, value in sorted((values or {}).items()):
        family.add_metric([label], value)
    return family


def _gauge(name: str, values: Mapping[tuple[str, ...], float] | None = None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, SERIES[name][2], labels=SERIES[name][1])
    for labels, value in sorted((values or {}).items()):
        family.add_metric(labels, value)
    return family


def _histogram(name: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(PREFIX + name, SERIES[name][2], labels=SERIES[name][1])


def _cumulated(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Buckets as Prometheus wants them: each with all that is faster."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, itertools.accumulate(counts), strict=True))
