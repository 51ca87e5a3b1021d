"""Running totals of what each artifact did since the agent's boot, kept until the server has them. Pure but for one file.

Totals never fall within a boot, so a newer report replaces an older one: what waits for an acknowledgement is at most one
report for each artifact and boot, however long the link is down. Totals of earlier boots wait in ``usage.json``.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_compress.agent.journal import write_atomically

_FIRST_BOUND, _LAST_BOUND, _RATIO = 50e-6, 10.0, 1.5
MAX_WAITING = 1000
"""reports kept without a link, the newest; also the most that one batch may carry"""

_MAX_UNANSWERED = 16
"""batches whose acknowledgement still counts; a later one covers the earlier ones anyway"""


def _bounds() -> tuple[float, ...]:
    bounds = [_FIRST_BOUND]
    while bounds[-1] * _RATIO < _LAST_BOUND:
        bounds.append(float(f"{bounds[-1] * _RATIO:.3g}"))
    return (*bounds, _LAST_BOUND)


BOUNDS = _bounds()
"""seconds; upper bounds of the buckets, the same on every device so that they add up"""


@dataclass(frozen=True)
class Subject:
    """What a total is about."""

    boot_id: str
    model: str
    version: str
    cohort: str = ""


@dataclass(frozen=True)
class Totals:
    """Everything since boot. ``energy`` maps meters, written ``source/scope``, to joules; a missing one was not measured."""

    inferences: Mapping[str, int] = field(default_factory=dict)
    bucket_counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    duration_sum: float = 0.0
    energy: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None

    def with_inference(self, seconds: float | None) -> Totals:
        """One more inference of ``seconds``; None: it failed, and its time means nothing."""
        outcome = "error" if seconds is None else "ok"
        counted = {**self.inferences, outcome: self.inferences.get(outcome, 0) + 1}
        if seconds is None:
            return replace(self, inferences=counted)
        bucket = bisect_left(BOUNDS, seconds)
        counts = (*self.bucket_counts[:bucket], self.bucket_counts[bucket] + 1, *self.bucket_counts[bucket + 1 :])
        return replace(self, inferences=counted, bucket_counts=counts, duration_sum=self.duration_sum + seconds)

    def with_energy(self, meter: str, joules: float) -> Totals:
        """``joules`` more on a meter."""
        return replace(self, energy={**self.energy, meter: self.energy.get(meter, 0.0) + joules})


class Reports:
    """The totals of this boot and those of earlier ones that the server may lack."""

    def __init__(self, boot_id: str, kept: Mapping[Subject, Totals] | None = None) -> None:
        self.boot_id = boot_id
        self._totals: dict[Subject, Totals] = dict(kept or {})
        self._waiting: set[Subject] = set(self._totals)
        self._sent: dict[int, dict[Subject, Totals]] = {}
        self._sequence = 0

    def subject(self, model: str, version: str, cohort: str) -> Subject:
        """The subject of this boot."""
        return Subject(self.boot_id, model, version, cohort)

    def count(self, subject: Subject, seconds: float | None) -> None:
        """One inference; ``seconds`` is None when it failed."""
        self._update(subject, self._totals.get(subject, Totals()).with_inference(seconds))

    def spend(self, subject: Subject, meter: str, joules: float) -> None:
        """Energy that went into ``subject``'s inferences."""
        self._update(subject, self._totals.get(subject, Totals()).with_energy(meter, joules))

    def remember_peak(self, subject: Subject, peak_memory_bytes: int | None) -> None:
        """The probe's peak memory."""
        self._update(subject, replace(self._totals.get(subject, Totals()), peak_memory_bytes=peak_memory_bytes))

    def totals(self, subject: Subject) -> Totals:
        """What is known of a subject."""
        return self._totals.get(subject, Totals())

    def batch(self) -> tuple[int, Mapping[Subject, Totals]] | None:
        """A sequence number and what the server lacks, or None when it lacks nothing. Stays waiting until acknowledged."""
        if not self._waiting:
            return None
        self._sequence += 1
        chosen = {subject: totals for subject, totals in self._totals.items() if subject in self._waiting}
        self._sent[self._sequence] = chosen
        self._sent.pop(self._sequence - _MAX_UNANSWERED, None)
        return self._sequence, chosen

    def acknowledge(self, sequence: int) -> None:
        """The server holds every batch up to ``sequence``: what has not changed since then waits no longer."""
        for number in [number for number in self._sent if number <= sequence]:
            for subject, totals in self._sent.pop(number).items():
                if self._totals.get(subject) == totals:
                    self._waiting.discard(subject)
        finished = [item for item in self._totals if item.boot_id != self.boot_id and item not in self._waiting]
        for subject in finished:
            del self._totals[subject]

    def forget_sent(self) -> None:
        """The link broke: what was sent on it is sent again, with what came since."""
        self._sent.clear()

    def waiting(self) -> Mapping[Subject, Totals]:
        """What the server may lack."""
        return {subject: totals for subject, totals in self._totals.items() if subject in self._waiting}

    def _update(self, subject: Subject, totals: Totals) -> None:
        self._totals[subject] = totals
        self._waiting.add(subject)
        while len(self._totals) > MAX_WAITING:
            oldest = next(iter(self._totals))
            del self._totals[oldest]
            self._waiting.discard(oldest)


def save(path: Path, waiting: Mapping[Subject, Totals]) -> None:
    """Keep totals for the next boot. Raises OSError."""
    rows = [{"subject": asdict(subject), "totals": asdict(totals)} for subject, totals in waiting.items()]
    write_atomically(path, json.dumps(rows).encode())


def restore(path: Path) -> dict[Subject, Totals]:
    """Read ``save``'s file; a missing or broken one holds nothing, because measurements are not worth a stop."""
    try:
        return dict(_rows(json.loads(path.read_bytes())))
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _rows(plain: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Subject, Totals]]:
    for row in list(plain)[-MAX_WAITING:]:
        totals = {**row["totals"], "bucket_counts": tuple(row["totals"]["bucket_counts"])}
        yield Subject(**row["subject"]), Totals(**totals)
