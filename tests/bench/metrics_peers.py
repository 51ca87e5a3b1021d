"""The same pages by prometheus_client alone: label children that hold every value, and a plain collector that makes families.

Both are given what our server knows already; neither reads a store or merges a report.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from edge_compress.device_metrics import DeviceFigures
from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.metrics import DEVICE_SERIES, LABELS, PREFIX, SERIES, Sources

_MICRO = 1_000_000


class PlainFleet(Collector):
    """The page of the fleet, as a custom collector is usually written."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        durations = HistogramMetricFamily(PREFIX + "inference_duration_seconds", "x", labels=LABELS)
        inferences, energy = _counter("inferences_total", SERIES), _counter("energy_joules_total", SERIES)
        for labels, sums in self._sources.usage():
            names = [*map(floatToGoString, sums.bucket_bounds), "+Inf"]
            buckets = list(zip(names, itertools.accumulate(sums.bucket_counts), strict=True))
            durations.add_metric(labels, buckets, sums.duration_sum)
            for outcome, count in sums.inferences.items():
                inferences.add_metric([*labels, outcome], count)
            for meter, joules in sums.energy.items():
                energy.add_metric([*labels, *meter.split("/")], joules)
        yield from (durations, inferences, energy, *self._states())

    def _states(self) -> Iterator[Metric]:
        for name, counts in (("devices", self._sources.devices()), ("jobs", self._sources.jobs())):
            family = _gauge(name, SERIES)
            for state, count in counts.items():
                family.add_metric([state], count)
            yield family
        rollouts = _gauge("rollout_devices", SERIES)
        for key, count in self._sources.rollouts().items():
            rollouts.add_metric(key, count)
        yield rollouts


class PlainDevices(Collector):
    """The page of single devices, likewise."""

    def __init__(self, devices: Sequence[DeviceFigures]) -> None:
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        families = {
            name: (_counter if kind == "counter" else _gauge)(name, DEVICE_SERIES) for name, (kind, _, _) in DEVICE_SERIES.items()
        }
        for device in self._devices:
            for name, labels, value in _values(device):
                families[name].add_metric([*device[:4], *labels], value)
        yield from families.values()


def fleet_children(sources: Sources) -> CollectorRegistry:
    """A registry whose label children hold what ``sources`` know."""
    registry = CollectorRegistry()
    durations = Histogram(PREFIX + "inference_duration_seconds", "x", LABELS, buckets=LATENCY_BOUNDS, registry=registry)
    inferences = Counter(PREFIX + "inferences_total", "x", SERIES["inferences_total"][1], registry=registry)
    energy = Counter(PREFIX + "energy_joules_total", "x", SERIES["energy_joules_total"][1], registry=registry)
    for labels, sums in sources.usage():
        child = durations.labels(*labels)
        for bucket, count in zip(child._buckets, sums.bucket_counts, strict=True):
            bucket.set(count)
        child._sum.set(sums.duration_sum)
        for outcome, count in sums.inferences.items():
            inferences.labels(*labels, outcome).inc(count)
        for meter, joules in sums.energy.items():
            energy.labels(*labels, *meter.split("/")).inc(joules)
    for name, counts in (("devices", sources.devices()), ("jobs", sources.jobs())):
        gauge = Gauge(PREFIX + name, "x", ["state"], registry=registry)
        for state, count in counts.items():
            gauge.labels(state).set(count)
    return registry


def device_children(devices: Sequence[DeviceFigures]) -> CollectorRegistry:
    """A registry whose label children hold every value of every device."""
    registry = CollectorRegistry()
    made = {
        name: (Counter if kind == "counter" else Gauge)(PREFIX + name, "x", labels, registry=registry)
        for name, (kind, labels, _) in DEVICE_SERIES.items()
        if labels
    }
    for device in devices:
        for name, labels, value in _values(device):
            child = made[name].labels(*device[:4], *labels)
            child.inc(value)
    return registry


def _values(device: DeviceFigures) -> Iterator[tuple[str, tuple[str, ...], float]]:
    if device.total is not None:
        for outcome, count in device.total.inferences.items():
            yield "device_inferences_total", (outcome,), count
        yield "device_inference_duration_seconds_total", (), device.total.micros / _MICRO
        for meter, micro in device.total.microjoules.items():
            yield "device_energy_joules_total", tuple(meter.split("/")), micro / _MICRO
    if device.p95_seconds is not None:
        yield "device_inference_p95_seconds", (), device.p95_seconds
    yield "device_last_seen_timestamp_seconds", (), device.last_seen
    yield "device_connected", (device.state,), device.connected


def _counter(name: str, series: dict) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, series[name][2], labels=series[name][1])


def _gauge(name: str, series: dict) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, series[name][2], labels=series[name][1])
