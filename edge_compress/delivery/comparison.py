"""What the canaries of a step and their control group have done since it began, from the totals that devices report.

Kept in memory: after a restart of the server a comparison begins anew, and its gates are inconclusive until enough was reported.
What the figures say is decided in ``domain.gates``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_compress.delivery.totals import Total, best_meter
from edge_compress.domain.gates import Window
from edge_compress.store.interface import UsageKey, UsageTotals


@dataclass
class Comparison:
    """Of one step. ``listen`` again and again, with the same groups."""

    last: dict[str, UsageTotals] = field(default_factory=dict)
    windows: dict[tuple[str, bool], Window] = field(default_factory=dict)

    def listen(self, rows: Mapping[UsageKey, UsageTotals], device: str, profile: str, *, canary: bool) -> None:
        """Take in what a device reported since the last time; ``rows``: those that count."""
        total = Total()
        for row in rows.values():
            total.replace(None, row)
        now = total.frozen()
        before, self.last[device] = self.last.get(device, now), now  # what was before the comparison began is no part of it
        group = (profile, canary)
        self.windows[group] = _grown(self.windows.get(group, Window()), before, now)

    def pairs(self) -> dict[str, tuple[Window, Window]]:
        """Profile -> (canary, control), for the profiles that have canaries."""
        profiles = {profile for profile, canary in self.windows if canary}
        return {profile: (self.windows[profile, True], self.windows.get((profile, False), Window())) for profile in profiles}


def _grown(window: Window, before: UsageTotals, now: UsageTotals) -> Window:
    """The window with what was done between two readings; as it is where that is nothing."""
    made = sum(now.inferences.values()) - sum(before.inferences.values())
    if made <= 0:
        return window
    meter = best_meter(now) or ""
    spent = now.energy.get(meter, 0.0) - before.energy.get(meter, 0.0)
    metered = best_meter(before) in (None, meter) and spent > 0
    added = [
        max(0, later - earlier) for later, earlier in itertools.zip_longest(now.bucket_counts, before.bucket_counts, fillvalue=0)
    ]
    return Window(
        inferences=window.inferences + made,
        errors=window.errors + max(0, now.inferences.get("error", 0) - before.inferences.get("error", 0)),
        counts=tuple(map(sum, itertools.zip_longest(window.counts, added, fillvalue=0))),
        seconds=window.seconds.with_value((now.duration_sum - before.duration_sum) / made),
        joules=window.joules.with_value(spent / made) if metered else window.joules,
        sources=window.sources | ({meter.split("/", 1)[0]} if metered else set()),
    )
