"""What the canaries of a step and their control group have done since it began, from the totals that devices report.

Kept in memory: after a restart of the server a comparison begins anew, and its gates are inconclusive until enough was reported.
What the figures say is decided in ``domain.gates``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from edge_compress.delivery.totals import best_meter, in_fleet_buckets
from edge_compress.domain.gates import Window
from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.store.interface import UsageKey, UsageTotals

MOST_CONTROLS = 200
"""devices of a profile that are listened to as its control group"""

Rows = Callable[[str], Mapping[UsageKey, UsageTotals]]


@dataclass(frozen=True)
class _Read:
    """A device's totals of the versions that count, when they were read last."""

    inferences: int = 0
    errors: int = 0
    counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS) + 1)
    seconds: float = 0.0
    meter: str = ""
    joules: float = 0.0


@dataclass
class Comparison:
    """Of one step. ``listen`` again and again, with the same groups."""

    last: dict[str, _Read] = field(default_factory=dict)
    windows: dict[tuple[str, bool], Window] = field(default_factory=dict)

    def listen(self, rows: Rows, device: str, profile: str, counts: Callable[[UsageKey], bool], *, canary: bool) -> None:
        """Take in what a device reported since the last time; ``counts`` says which of its rows do."""
        now = _read(row for key, row in rows(device).items() if key.profile == profile and counts(key))
        before, self.last[device] = self.last.get(device), now
        if canary:
            self.windows.setdefault((profile, canary), Window(counts=(0,) * len(now.counts)))  # silent ones are looked at, too
        if before is None:
            before = now  # what they did before the comparison began is no part of it
        made = now.inferences - before.inferences
        if made > 0:
            window = self.windows.get((profile, canary), Window(counts=(0,) * len(now.counts)))
            self.windows[profile, canary] = _grown(window, before, now, made)

    def pairs(self) -> dict[str, tuple[Window, Window]]:
        """Profile -> (canary, control), for the profiles that have canaries."""
        profiles = {profile for profile, canary in self.windows if canary}
        return {profile: (self.windows[profile, True], self.windows.get((profile, False), Window())) for profile in profiles}


def _read(rows: Iterable[UsageTotals]) -> _Read:
    found = _Read()
    for row in rows:
        meter = best_meter(row) or ""
        found = replace(
            found,
            inferences=found.inferences + sum(row.inferences.values()),
            errors=found.errors + row.inferences.get("error", 0),
            counts=tuple(map(sum, zip(found.counts, in_fleet_buckets(row) or (0,) * len(found.counts), strict=True))),
            seconds=found.seconds + row.duration_sum,
            meter=meter or found.meter,
            joules=found.joules + row.energy.get(meter, 0.0),
        )
    return found


def _grown(window: Window, before: _Read, now: _Read, made: int) -> Window:
    added = (max(0, later - earlier) for later, earlier in zip(now.counts, before.counts, strict=True))
    metered = bool(now.meter) and before.meter in ("", now.meter) and now.joules > before.joules
    return Window(
        inferences=window.inferences + made,
        errors=window.errors + max(0, now.errors - before.errors),
        counts=tuple(map(sum, zip(window.counts, added, strict=True))),
        seconds=window.seconds.with_value((now.seconds - before.seconds) / made),
        joules=window.joules.with_value((now.joules - before.joules) / made) if metered else window.joules,
        sources=window.sources | ({now.meter.split("/", 1)[0]} if metered else set()),
    )
