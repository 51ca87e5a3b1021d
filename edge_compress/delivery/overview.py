"""Puts the fleet at a glance together: from the census, the last minute's usage and the rollouts.

Ten thousand devices cost what their profiles and versions cost: no device is looked at.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from edge_compress.delivery.census import Census, Place
from edge_compress.delivery.recent import TICK_SECONDS, Recent, Subject
from edge_compress.delivery.remembered import Remembered
from edge_compress.delivery.totals import Total, energy_per_inference
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.gates import Verdict
from edge_compress.domain.histogram import quantile
from edge_compress.domain.overview import Figures, FleetOverview, ProfileOverview, RolloutOverview, VersionOverview
from edge_compress.domain.rollout import RolloutSpec, RolloutState, RolloutStatus
from edge_compress.domain.schema import decode
from edge_compress.domain.spec import DeploymentSpec
from edge_compress.store.interface import Record, ResourceStore, UsageTotals

_OVER = (RolloutState.COMPLETED, RolloutState.SUPERSEDED)
_WORST_FIRST = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
_Rollout = tuple[str, RolloutSpec, RolloutStatus]


class Overview:
    """The fleet at a glance. ``run`` belongs on an event loop; ``read`` blocks, from any thread."""

    def __init__(self, store: ResourceStore, census: Census, ledger: UsageLedger) -> None:
        self._census, self._recent = census, Recent(ledger)
        self._rollouts = Remembered(store, "Rollout", _under_way)
        self._steps = Remembered(store, "Deployment", _steps)

    async def run(self) -> None:
        """Remember sums every few seconds, for ever."""
        while True:
            await asyncio.to_thread(self.tick)
            await asyncio.sleep(TICK_SECONDS)

    def tick(self) -> None:
        """Remember what the figures of the next minute begin from; from any thread."""
        self._recent.tick()

    def read(self) -> FleetOverview:
        """As of now."""
        seconds, usage = self._recent.usage()
        places, steps = self._census.counts(), self._steps.value()
        names = sorted({place.profile for place in places})
        profiles = tuple(_profile(name, places, usage, seconds) for name in names)
        rollouts = tuple(_rollout(one, steps) for one in self._rollouts.value())
        return FleetOverview(seconds, profiles, rollouts)


def figures(usage: UsageTotals, seconds: float) -> Figures:
    """What was done within some seconds."""
    if seconds <= 0:
        return Figures()
    joules, source = energy_per_inference(usage) or (None, "")
    done = sum(usage.inferences.values())
    p95 = quantile(usage.bucket_bounds, usage.bucket_counts, 0.95)
    return Figures(done / seconds, usage.inferences.get("error", 0) / seconds, p95, joules, source)


def _profile(name: str, places: Mapping[Place, int], usage: Mapping[Subject, UsageTotals], seconds: float) -> ProfileOverview:
    states: Counter[str] = Counter()
    for place, count in places.items():
        if place.profile == name:
            states[place.state] += count
    mine = {subject: done for subject, done in usage.items() if subject.profile == name}
    total = Total()
    for done in mine.values():
        total.replace(None, done)
    return ProfileOverview(name, dict(states), figures(total.frozen(), seconds), _versions(name, places, mine, seconds))


def _versions(
    profile: str, places: Mapping[Place, int], usage: Mapping[Subject, UsageTotals], seconds: float
) -> tuple[VersionOverview, ...]:
    """Those that run somewhere or did something of late, the most common first."""
    devices: dict[Subject, int] = defaultdict(int)
    for place, count in places.items():
        if place.profile == profile and place.version:
            devices[Subject(profile, place.model, place.version)] += count
    seen = {subject for subject, done in usage.items() if any(done.inferences.values())}
    order = sorted(devices.keys() | seen, key=lambda subject: (-devices.get(subject, 0), subject))
    return tuple(
        VersionOverview(one.model, one.version, devices.get(one, 0), figures(usage.get(one, UsageTotals()), seconds))
        for one in order
    )


def _under_way(records: Iterable[Record]) -> list[_Rollout]:
    found = [(one.name, decode(RolloutSpec, one.spec, "spec"), decode(RolloutStatus, one.status, "status")) for one in records]
    return [one for one in found if one[2].state not in _OVER]


def _steps(records: Iterable[Record]) -> dict[str, int]:
    """Deployment -> steps of its rollouts."""
    return {record.name: len(decode(DeploymentSpec, record.spec, "spec").rollout.steps) for record in records}


def _rollout(one: _Rollout, steps: Mapping[str, int]) -> RolloutOverview:
    name, spec, status = one
    verdicts = {finding.verdict for finding in status.gates}
    worst = next((verdict.value for verdict in _WORST_FIRST if verdict in verdicts), "")
    of, share = steps.get(spec.deployment, 0), status.share
    return RolloutOverview(name, status.state, status.step + 1, of, share, worst, status.message, status.devices)
