"""What the canaries of a step and their control group have done since it began, from the totals that devices report.

Kept in memory: after a restart of the server a comparison begins anew, and its gates are inconclusive until enough was reported.
What the figures say is decided in ``domain.gates``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge_compress.delivery.totals import Total, best_meter
from edge_compress.domain.gates import Window
from edge_compress.store.interface import UsageKey, UsageTotals


@dataclass
class Comparison:
    """Of one step. ``listen`` again and again, with the same groups."""

    last: dict[str, UsageTotals] = field(default_factory=dict)
    billed: dict[str, UsageTotals] = field(default_factory=dict)
    """device -> its totals when it last reported more energy: meters count in steps, which may be rarer than reports"""
    windows: dict[tuple[str, bool], Window] = field(default_factory=dict)

    def listen(self, rows: Mapping[UsageKey, UsageTotals], device: str, profile: str, *, canary: bool) -> None:
        """Take in what a device reported since the last time; ``rows``: those that count."""
        total = Total()
        for row in rows.values():
            total.replace(None, row)
        now = total.frozen()
        before, self.last[device] = self.last.get(device, now), now  # what was before the comparison began is no part of it
        group = (profile, canary)
        window = _grown(self.windows.get(group, Window()), before, now)
        self.windows[group] = self._metered(window, device, now)

    def _metered(self, window: Window, device: str, now: UsageTotals) -> Window:
        """The window with the energy of the inferences since the device last reported some; as it is where there is none yet, or
        its meter is another one than before: then some of them may be on neither. Estimates in a meter's place are left out."""
        before = self.billed.setdefault(device, now)
        grown = {meter: joules - before.energy.get(meter, 0.0) for meter, joules in now.energy.items()}
        meter = best_meter(replace(now, energy={meter: joules for meter, joules in grown.items() if joules > 0}))
        made = sum(now.inferences.values()) - sum(before.inferences.values())
        if meter is None or made <= 0:
            return window
        self.billed[device] = now
        source = meter.split("/", 1)[0]
        if (not before.energy or meter in before.energy) and not (source == "estimate" and _measured(now)):
            return replace(window, joules=window.joules.with_value(grown[meter] / made), sources=window.sources | {source})
        return window

    def pairs(self) -> dict[str, tuple[Window, Window]]:
        """Profile -> (canary, control), for the profiles that have canaries."""
        profiles = {profile for profile, canary in self.windows if canary}
        return {profile: (self.windows[profile, True], self.windows.get((profile, False), Window())) for profile in profiles}


def _measured(row: UsageTotals) -> bool:
    return any(not meter.startswith("estimate/") for meter in row.energy)


def _grown(window: Window, before: UsageTotals, now: UsageTotals) -> Window:
    """The window with what was done between two readings; as it is where that is nothing."""
    made = sum(now.inferences.values()) - sum(before.inferences.values())
    if made <= 0:
        return window
    added = [
        max(0, later - earlier) for later, earlier in itertools.zip_longest(now.bucket_counts, before.bucket_counts, fillvalue=0)
    ]
    return replace(
        window,
        inferences=window.inferences + made,
        errors=window.errors + max(0, now.inferences.get("error", 0) - before.inferences.get("error", 0)),
        counts=tuple(map(sum, itertools.zip_longest(window.counts, added, fillvalue=0))),
        seconds=window.seconds.with_value((now.duration_sum - before.duration_sum) / made),
    )
