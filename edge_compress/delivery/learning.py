"""From the running totals that devices report to what their inferences cost, beside what was foretold. Pure.

Totals are read as they grow: what came since the last look is one report. Usual seconds come from the sum of all durations within
the histogram, which is finer than its buckets. What follows from the reports is decided in ``domain.calibration``; when to look,
and where it is kept, is ``calibrator``'s business.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_compress.delivery.totals import best_meter
from edge_compress.domain.calibration import Corrections, Costs, Observed, errors, faded, kept_of
from edge_compress.domain.histogram import usual, within
from edge_compress.store.interface import UsageTotals

FEWEST_INFERENCES = 10
"""between two looks, to count as a report"""


@dataclass(frozen=True)
class Subject:
    """One device with one artifact, and what was foretold of it without corrections."""

    device: str
    version: str
    arithmetic: str
    predicted: Costs


@dataclass(frozen=True)
class Mark:
    """How far a device's totals were read."""

    inferences: int = 0
    counts: tuple[int, ...] = ()
    seconds: float = 0.0
    meter: str = ""
    joules: float = 0.0


@dataclass(frozen=True)
class Heard:
    """What is known of a subject: its level, the counts in the buckets of the reports that it is made of, and up to where its
    totals are in them. Durable."""

    observed: Observed
    mark: Mark
    counts: tuple[float, ...] = ()


def heard(before: Heard | None, now: UsageTotals, subject: Subject, corrections: Corrections, at: float) -> Heard | None:
    """What is known after another look; ``before`` itself where too little was added. None: nothing is known yet.

    ``corrections``: those that stand, for how far off they are; ``at``: seconds since the epoch.
    """
    old, new = before.mark if before else Mark(), _mark(now)
    count = new.inferences - old.inferences
    if before is not None and count < 0:  # the device was forgotten and came back
        return replace(before, mark=new)
    if count < FEWEST_INFERENCES:
        return None if before is None else replace(before, observed=replace(before.observed, predicted=subject.predicted))
    added = _added(old.counts, new.counts)
    reported = Costs(
        usual(now.bucket_bounds, added, new.seconds - old.seconds), None, now.peak_memory_bytes, _joules(old, new, count)
    )
    source = new.meter.split("/", 1)[0] if reported.energy is not None else ""
    fresh = Observed(subject.device, subject.version, subject.arithmetic, subject.predicted, reported, 1.0, at, source)
    level = fresh if before is None else faded(before.observed, fresh)
    counts = added if before is None else _mixed(before.counts, added, kept_of(before.observed, at) / before.observed.reports)
    level = _with_tail(level, now.bucket_bounds, counts)
    off = errors(corrections.costs(subject.predicted, subject.arithmetic), level.reported)
    return Heard(replace(level, errors=off), new, counts)


def _mark(now: UsageTotals) -> Mark:
    meter = best_meter(now) or ""
    return Mark(sum(now.inferences.values()), tuple(now.bucket_counts), now.duration_sum, meter, now.energy.get(meter, 0.0))


def _joules(old: Mark, new: Mark, inferences: int) -> float | None:
    """Of one inference between two looks; None where there was no meter, or another one."""
    same = bool(new.meter) and (old.meter == new.meter or old == Mark())
    spent = new.joules - old.joules if same else 0.0
    return spent / inferences if spent > 0 else None


def _with_tail(level: Observed, bounds: Sequence[float], counts: Sequence[float]) -> Observed:
    """With the 95th percentile of many reports, for one holds too few inferences for it: of the shape that was foretold, as far
    as its bucket allows."""
    usually, predicted = level.reported.latency, level.predicted
    if usually is None:
        return level
    shape = predicted.latency_p95 / predicted.latency if predicted.latency and predicted.latency_p95 else 1.0
    return replace(level, reported=replace(level.reported, latency_p95=within(bounds, counts, 0.95, usually * shape)))


def _added(old: Sequence[int], new: Sequence[int]) -> tuple[float, ...]:
    return tuple(float(max(0, later - earlier)) for later, earlier in itertools.zip_longest(new, old, fillvalue=0))


def _mixed(old: Sequence[float], new: Sequence[float], share: float) -> tuple[float, ...]:
    """Counts, of the old ones a share."""
    return tuple(round(share * before + now, 3) for before, now in itertools.zip_longest(old, new, fillvalue=0.0))
