"""Arithmetic on running totals: joining repeats of one boot, adding up boots and devices; the meter that counts.

Pure. Joining takes the larger of each counter, so that a repeated or reordered report changes nothing. Sums are kept in whole
microseconds and microjoules: a float sum depends on its order, and a counter that falls by one rounding looks to Prometheus
like a restart. Which totals there are, and where they are kept, is ``usage``'s business.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from edge_compress.domain.session import LATENCY_BOUNDS, UsageReport
from edge_compress.errors import InvalidInput
from edge_compress.store.interface import UsageTotals

N = TypeVar("N", int, float)

MICRO = 1_000_000
_MOST_FOLDED = 256
_PREFERRED = ("rapl", "ina", "hwmon", "battery", "nvml", "external", "estimate")
"""Meters before estimates: one of them is shown where a device has several."""


def totals_of(report: UsageReport) -> UsageTotals:
    """A report as totals."""
    energy = {f"{reading.source}/{reading.scope}": reading.joules for reading in report.energy}
    return UsageTotals(
        inferences=dict(report.inferences),
        bucket_bounds=report.bucket_bounds,
        bucket_counts=report.bucket_counts,
        duration_sum=report.duration_sum,
        energy=energy,
        peak_memory_bytes=report.peak_memory_bytes,
    )


def joined(old: UsageTotals | None, new: UsageTotals) -> UsageTotals:
    """What is known after hearing both, in either order. Raises InvalidInput when they count in different buckets."""
    if old is None:
        return new
    if old.bucket_bounds and new.bucket_bounds and old.bucket_bounds != new.bucket_bounds:
        raise InvalidInput.at("report.bucket_bounds", new.bucket_bounds, "the bounds this boot reported before")
    return UsageTotals(
        inferences=_larger(old.inferences, new.inferences),
        bucket_bounds=old.bucket_bounds or new.bucket_bounds,
        bucket_counts=tuple(map(max, itertools.zip_longest(old.bucket_counts, new.bucket_counts, fillvalue=0))),
        duration_sum=max(old.duration_sum, new.duration_sum),
        energy=_larger(old.energy, new.energy),
        peak_memory_bytes=largest(old.peak_memory_bytes, new.peak_memory_bytes),
        folded=old.folded,
    )


def folded(into: UsageTotals | None, rows: Iterable[tuple[str, UsageTotals]]) -> UsageTotals:
    """One row that stands for ``into`` and the ``rows`` of the boots named beside them, in the fleet's buckets."""
    total = Total()
    boots: tuple[str, ...] = ()
    peak = None if into is None else into.peak_memory_bytes
    if into is not None:
        total.replace(None, into)
        boots = into.folded
    for boot, row in rows:
        total.replace(None, row)
        boots = (*boots, *row.folded, boot)
        peak = largest(peak, row.peak_memory_bytes)
    return dataclasses.replace(total.frozen(), peak_memory_bytes=peak, folded=boots[-_MOST_FOLDED:])


def together(rows: Iterable[UsageTotals]) -> UsageTotals:
    """What several boots of one device made of one artifact."""
    return folded(None, [("", row) for row in rows])


def largest(one: int | None, other: int | None) -> int | None:
    """The larger of two figures of which either may be unknown."""
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)


@dataclass
class Total:
    """A sum over many rows, each of which can be replaced by its newer self. Every sum is exact, whatever the order."""

    inferences: Counter[str] = field(default_factory=Counter)
    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    micros: int = 0
    microjoules: Counter[str] = field(default_factory=Counter)
    timed: bool = False
    """whether any row has a histogram"""

    def replace(self, old: UsageTotals | None, new: UsageTotals) -> None:
        """Take ``old``, which was in the sum, out and put ``new`` in."""
        if old is not None:
            self._add(old, -1)
        self._add(new, 1)
        self.timed = self.timed or bool(new.bucket_counts)

    def frozen(self) -> UsageTotals:
        """The sum as a row."""
        return UsageTotals(
            inferences=dict(self.inferences),
            bucket_bounds=LATENCY_BOUNDS if self.timed else (),
            bucket_counts=tuple(self.counts) if self.timed else (),
            duration_sum=self.micros / MICRO,
            energy={meter: amount / MICRO for meter, amount in self.microjoules.items()},
        )

    def _add(self, row: UsageTotals, sign: int) -> None:
        for outcome, count in row.inferences.items():
            self.inferences[outcome] += sign * count
        for index, count in enumerate(in_fleet_buckets(row)):
            self.counts[index] += sign * count
        self.micros += sign * round(row.duration_sum * MICRO)
        for meter, joules in row.energy.items():
            self.microjoules[meter] += sign * round(joules * MICRO)


def in_fleet_buckets(row: UsageTotals) -> Sequence[int]:
    """Counts per bucket of LATENCY_BOUNDS. A device that counts in other buckets is never shown faster than it is: each of its
    buckets goes where its upper bound belongs."""
    if row.bucket_bounds == LATENCY_BOUNDS or not row.bucket_counts:
        return row.bucket_counts
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    for bound, count in itertools.zip_longest(row.bucket_bounds, row.bucket_counts, fillvalue=float("inf")):
        counts[bisect.bisect_left(LATENCY_BOUNDS, bound)] += int(count)
    return counts


def best_meter(row: UsageTotals) -> str | None:
    """The ``source/scope`` that counts where a device has several: the best source, of its scopes the widest, which drew most."""
    known = [(_PREFERRED.index(source), -joules, meter) for meter, joules in row.energy.items()
             if (source := meter.split("/", 1)[0]) in _PREFERRED]  # fmt: skip
    return min(known)[2] if known else None


def energy_per_inference(row: UsageTotals) -> tuple[float, str] | None:
    """Joules of one inference and their source, from the best meter there is; None without meter or inferences."""
    count, meter = sum(row.inferences.values()), best_meter(row)
    return (row.energy[meter] / count, meter.split("/", 1)[0]) if meter and count else None


def _larger(old: Mapping[str, N], new: Mapping[str, N]) -> dict[str, N]:
    return {key: max(old.get(key, 0), new.get(key, 0)) for key in {**old, **new}}
