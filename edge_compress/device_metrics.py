"""Series of single devices, for ``/metrics/devices``: what each runs and makes of it, without histograms.

The lines of a device are written when it changes, so that a scrape only joins them: ten thousand devices have seventy thousand
lines. As many devices as fit within a bound on series are shown, each with all of its series; what is left out is counted. A
device shows what it runs now, so that it takes the same room however many versions it ran. Numbers are written as Python writes
them, which both formats read. When a device changes, and into what, is told by ``delivery``.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edge_compress.exposition import Family, label
from edge_compress.metrics import DEVICE_LABELS, DEVICE_SERIES, PREFIX

_MICRO = 1_000_000
_DROPPED = "device_series_dropped_total"


class DeviceTotal(NamedTuple):
    """What one device made of one artifact since it joined: outcome -> inferences, microseconds, source/scope -> microjoules."""

    inferences: Mapping[str, int]
    micros: int
    microjoules: Mapping[str, int]


class DeviceFigures(NamedTuple):
    """One device now. ``last_seen`` in seconds since the epoch; ``model`` and ``version`` are what it runs."""

    device: str
    profile: str
    model: str
    version: str
    state: str
    connected: bool
    last_seen: float
    p95_seconds: float | None = None
    total: DeviceTotal | None = None

    @property
    def series(self) -> int:
        """How many lines it takes."""
        total = self.total
        counted = len(total.inferences) + 1 + len(total.microjoules) if total is not None else 0
        return 2 + (self.p95_seconds is not None) + counted


class DeviceMetrics:
    """The families of single devices, at most ``most_series`` at a time. Every method may be called from any thread."""

    def __init__(self, most_series: int) -> None:
        self._most = most_series
        self._lock = threading.Lock()
        self._lines: dict[str, dict[str, str]] = {name: {} for name in DEVICE_SERIES if name != _DROPPED}
        self._labels: dict[str, tuple[tuple[str, ...], str]] = {}
        self._series: dict[str, int] = {}
        self._shown = 0
        self._dropped = 0

    def show(self, device: DeviceFigures) -> None:
        """A device came, or changed."""
        name = device.device
        with self._lock:
            for family, text in _written(device, self._labels_of(device)):
                if text:
                    self._lines[family][name] = text
                else:
                    self._lines[family].pop(name, None)
            self._count(name, device.series)

    def forget(self, name: str) -> None:
        """A device is no more."""
        with self._lock:
            self._labels.pop(name, None)
            for lines in self._lines.values():
                lines.pop(name, None)
            self._count(name, 0)

    def families(self) -> list[Family]:
        """Every family. The ones of which nothing is known have no lines."""
        with self._lock:
            kept = self._kept()
            dropped = _family(_DROPPED, [f"{PREFIX}{_DROPPED} {self._dropped}\n"])
            return [*(_family(name, _kept_lines(lines, kept)) for name, lines in self._lines.items()), dropped]

    def _kept(self) -> set[str] | None:
        """The devices that fit, those that came first before others; None: all. Counts what is left out."""
        if self._shown <= self._most:
            return None
        kept, left = set(), self._most
        for name, series in self._series.items():
            if series > left:
                break
            kept.add(name)
            left -= series
        self._dropped += self._shown - (self._most - left)
        return kept

    def _labels_of(self, device: DeviceFigures) -> str:
        known = self._labels.get(device.device)
        if known is None or known[0] != device[1:4]:
            known = self._labels[device.device] = device[1:4], _labels(device)
        return known[1]

    def _count(self, name: str, series: int) -> None:
        self._shown += series - self._series.get(name, 0)
        if series:
            self._series[name] = series
        else:
            self._series.pop(name, None)


def _kept_lines(lines: Mapping[str, str], kept: set[str] | None) -> list[str]:
    """The lines of the devices that are kept."""
    return list(lines.values()) if kept is None else [text for name, text in lines.items() if name in kept]


def _written(device: DeviceFigures, labels: str) -> Iterable[tuple[str, str]]:
    """Family -> the lines of a device, without any where nothing is known."""
    total, p95 = device.total, device.p95_seconds
    yield "device_inferences_total", _inferences(labels, total.inferences) if total else ""
    name = "device_inference_duration_seconds_total"
    yield name, f"{PREFIX}{name}{labels}}} {total.micros / _MICRO!r}\n" if total else ""
    yield "device_energy_joules_total", _energy(labels, total.microjoules) if total else ""
    name = "device_inference_p95_seconds"
    yield name, f"{PREFIX}{name}{labels}}} {p95!r}\n" if p95 is not None else ""
    name = "device_last_seen_timestamp_seconds"
    yield name, f"{PREFIX}{name}{labels}}} {device.last_seen:.0f}\n"
    name = "device_connected"
    yield name, f'{PREFIX}{name}{labels},state="{device.state}"}} {device.connected:d}\n'


def _inferences(labels: str, counts: Mapping[str, int]) -> str:
    name = f"{PREFIX}device_inferences_total{labels},outcome="
    return "".join([f'{name}"{outcome}"}} {count}\n' for outcome, count in counts.items()])


def _energy(labels: str, microjoules: Mapping[str, int]) -> str:
    name = f"{PREFIX}device_energy_joules_total{labels}"
    return "".join([f"{name}{_meter(meter)} {micro / _MICRO!r}\n" for meter, micro in microjoules.items()])


def _labels(device: DeviceFigures) -> str:
    """The labels that all series of a device have, without the last brace."""
    return "{" + ",".join(f"{name}={label(value)}" for name, value in zip(DEVICE_LABELS, device[:4], strict=True))


@functools.lru_cache(256)
def _meter(meter: str) -> str:
    """The labels of a meter, with the last brace; scopes are what devices call them, so only some are kept."""
    source, _, scope = meter.partition("/")
    return f",source={label(source)},scope={label(scope)}}}"


def _family(name: str, lines: list[str]) -> Family:
    kind, _, text = DEVICE_SERIES[name]
    return Family(PREFIX + name, kind, text, lines)
