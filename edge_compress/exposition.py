"""The text formats of Prometheus: series as lines, which are the same in both formats but for heads and the end.

Lines are written directly, because an object for every sample costs several times as much (``make bench-metrics``). Names and
label names are ours and need no escape. What the series mean is left to ``metrics``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

OPENMETRICS = "application/openmetrics-text"
_SHORT = 1_000_000
"""from here on Go writes numbers with an exponent"""
_HISTOGRAMS_KEPT = 4096
"""series whose heads are kept: 5 KB each"""


@dataclass(frozen=True)
class Family:
    """All series of one name. ``name`` is that of the text format: of counters with ``_total``; ``kind`` is counter, gauge or
    histogram; ``lines`` are whole samples."""

    name: str
    kind: str
    help: str
    lines: Sequence[str]


def content_type(accept: str) -> str:
    """The Content-Type that an Accept header asks for: OpenMetrics or plain text."""
    return choose_encoder(accept)[1]


def page(families: Iterable[Family], *, openmetrics: bool) -> Iterator[bytes]:
    """The families that have samples, each in one piece."""
    for family in families:
        if family.lines:
            yield "".join((_head(family, openmetrics), *family.lines)).encode()
    if openmetrics:
        yield b"# EOF\n"


def number(value: float) -> str:
    """A value as Prometheus' own clients write it."""
    if isinstance(value, int) and 0 <= value < _SHORT:
        return f"{value}.0"
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library has no types here


def label(value: str) -> str:
    """A label's value, escaped and quoted."""
    if "\\" in value or "\n" in value or '"' in value:
        value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{value}"'


def sample(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    """A line with its labels in alphabetical order."""
    return f"{_series(name, labels)} {number(value)}\n"


def histogram(
    name: str, labels: tuple[tuple[str, str], ...], bounds: tuple[float, ...], counts: Sequence[int], total: float
) -> list[str]:
    """The lines of one histogram from counts by bucket, of which the last has no bound; ``total`` sums up what was observed."""
    *buckets, count, sum_ = _histogram_heads(name, labels, bounds)
    cumulated = list(itertools.accumulate(counts))
    lines = [f"{head} {number(value)}\n" for head, value in zip(buckets, cumulated, strict=True)]
    return [*lines, f"{count} {number(cumulated[-1])}\n", f"{sum_} {number(total)}\n"]


@functools.lru_cache(_HISTOGRAMS_KEPT)
def _histogram_heads(name: str, labels: tuple[tuple[str, str], ...], bounds: tuple[float, ...]) -> tuple[str, ...]:
    """What stands before each value: buckets, count, sum."""
    les = [*map(floatToGoString, bounds), "+Inf"]
    buckets = [_series(f"{name}_bucket", (*labels, ("le", le))) for le in les]
    return (*buckets, _series(f"{name}_count", labels), _series(f"{name}_sum", labels))


def _series(name: str, labels: Iterable[tuple[str, str]]) -> str:
    return name + "{" + ",".join(f"{key}={label(value)}" for key, value in sorted(labels)) + "}"


def _head(family: Family, openmetrics: bool) -> str:
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
