"""Looks through a rollout's gates: who is canary, who is control, and what they did, from the server's own totals."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from edge_compress.delivery.comparison import Comparison
from edge_compress.delivery.devices import Device
from edge_compress.delivery.world import StoredRollout
from edge_compress.domain.gates import Finding, Verdict, Window, judged
from edge_compress.domain.rollout import Member, RolloutState
from edge_compress.domain.session import Assignment
from edge_compress.domain.spec import Gate, RolloutPolicy
from edge_compress.errors import InvalidSpec
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import UsageKey, UsageTotals

_log = logging.getLogger(__name__)
_LONGEST_MESSAGE = 500
MOST_CONTROLS = 200
"""devices of a profile that are listened to as its control group"""
Members = Mapping[str, tuple[Member, Assignment]]
Rows = Callable[[str], Mapping[UsageKey, UsageTotals]]
"""device -> its running totals"""


class Gatekeeper:
    """Keeps one comparison for each rollout, of its current step. Call it from one thread at a time."""

    def __init__(self, rows: Rows, registry: Registry) -> None:
        self._rows, self._registry = rows, registry
        self._comparisons: dict[str, tuple[object, Comparison]] = {}

    def findings(
        self, rollout: StoredRollout, policy: RolloutPolicy, members: Members, devices: Iterable[Device]
    ) -> tuple[Finding, ...]:
        """What each gate finds now. Nothing in the last step, which leaves nobody to compare with, and nothing where no version
        came before: there is none to be worse than."""
        status, name = rollout.status, rollout.record.name
        under_way = status.state in (RolloutState.PROGRESSING, RolloutState.PAUSED)
        last = status.step + 1 >= len(policy.steps)
        if not (policy.gates and rollout.spec.base and under_way and status.exposed) or last:
            self._comparisons.pop(name, None)
            return ()
        comparison = self._comparison(name, (rollout.record.uid, status.step, status.step_started_at))
        self._listen(comparison, rollout, members, devices)
        pairs = comparison.pairs()
        return tuple(judged(gate, pairs, self._judge) for gate in policy.gates)

    def _judge(self, gate: Gate, canary: Window, control: Window) -> Finding:
        """What the metric says; one that is gone or breaks leaves the question open, which holds the rollout."""
        try:
            return _checked(self._registry.gate_metric(gate.metric).judge(gate, canary, control))
        except InvalidSpec:
            return Finding(gate.metric, Verdict.INCONCLUSIVE, "no plugin offers this metric any more")
        except Exception as error:  # a plugin may raise anything
            _log.warning("gate metric %s broke: %s: %s", gate.metric, type(error).__name__, error)
            return Finding(gate.metric, Verdict.INCONCLUSIVE, f"the metric broke: {type(error).__name__}: {error}")

    def _comparison(self, name: str, step: object) -> Comparison:
        known = self._comparisons.get(name)
        if known is None or known[0] != step:
            known = self._comparisons[name] = (step, Comparison())
        return known[1]

    def _listen(self, comparison: Comparison, rollout: StoredRollout, members: Members, devices: Iterable[Device]) -> None:
        controls: dict[str, int] = defaultdict(int)
        model, exposed = rollout.spec.model, frozenset(rollout.status.exposed)
        for device in sorted(devices, key=lambda item: item.name):
            if device.name not in members:
                continue
            profile, canary, offer = device.spec.profile, device.name in exposed, members[device.name][1]
            versions = {one.version for one in (offer.artifact, *offer.fallbacks)}
            group = device.made_for
            controls[group] += not canary
            if not canary and controls[group] > MOST_CONTROLS:
                continue
            rows = {
                key: row
                for key, row in self._rows(device.name).items()
                if (key.profile, key.model) == (profile, model) and (key.version in versions) == canary
            }
            comparison.listen(rows, device.name, group, canary=canary)


def _checked(found: Any) -> Finding:
    """What a metric returned. Raises TypeError, ValueError for what is no finding."""
    if not isinstance(found, Finding):
        raise TypeError(f"it returned {type(found).__name__}, not a Finding")
    if any(figure is not None and not math.isfinite(figure) for figure in (found.canary, found.control)):
        raise ValueError("its figures are not finite")
    return replace(found, verdict=Verdict(found.verdict), message=" ".join(str(found.message).split())[:_LONGEST_MESSAGE])
