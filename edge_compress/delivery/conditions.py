"""What a deployment is told of itself: the conditions Compressed and RolledOut, ProfileDrift where devices contradict their
profiles, and Drifted where they report that they miss their goals. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from edge_compress.delivery.demand import Progress
from edge_compress.delivery.devices import Device
from edge_compress.delivery.world import StoredDeployment
from edge_compress.domain.miss import Miss
from edge_compress.domain.resource import Condition, ResourceStatus
from edge_compress.domain.rollout import RolloutState, RolloutStatus

COMPRESSED = "Compressed"
ROLLED_OUT = "RolledOut"
PROFILE_DRIFT = "ProfileDrift"
DRIFTED = "Drifted"
_MOST_DRIFTS = 5


def rolled_out(rollout: RolloutStatus | None) -> Progress:
    """How far the rollout is, in the words of a condition."""
    if rollout is None:
        return Progress("False", "Waiting", "there is no artifact to deliver yet")
    status = "True" if rollout.state == RolloutState.COMPLETED else "False"
    return Progress(status, rollout.state, rollout.message)


def drifted(deployment: StoredDeployment, devices: Iterable[Device]) -> Progress | None:
    """Which of its devices contradict their profiles; None where none does and none ever did."""
    selector = deployment.value.spec.selector
    mine = [one for one in devices if one.status.drift and selector.matches(one.spec.profile, one.spec.labels)]
    if not mine:
        known = any(condition.type == PROFILE_DRIFT for condition in deployment.status.conditions)
        return Progress("False", "AsDeclared", "every device is what its profile says") if known else None
    words = Counter(
        f"{one.spec.profile}: {'; '.join(one.status.drift)}; they get what is made for {one.made_for}" for one in mine
    )
    told = [f"{count} of {said}" for said, count in sorted(words.items())[:_MOST_DRIFTS]]
    return Progress("True", "DevicesDiffer", "; ".join(told))


def goals_missed(deployment: StoredDeployment, misses: Mapping[str, Miss]) -> Progress | None:
    """Which classes miss their goals by what their devices report, and what follows; None where none does and none ever did."""
    if not misses:
        known = any(condition.type == DRIFTED for condition in deployment.status.conditions)
        return Progress("False", "GoalsKept", "devices report what their profiles ask for") if known else None
    automatic = deployment.value.spec.rollout.on_drift == "automatic"
    better = any(miss.better for miss in misses.values())
    reason = "NothingFits" if not better else "Replanned" if automatic else "Proposed"
    told = [f"{profile}: {miss.words}; {miss.proposal}" for profile, miss in sorted(misses.items())[:_MOST_DRIFTS]]
    advice = ["set rollout.on_drift: automatic to have it made and rolled out"] if better and not automatic else []
    return Progress("True", reason, "; ".join([*told, *advice]))


def with_conditions(deployment: StoredDeployment, said: Mapping[str, Progress], now: float) -> ResourceStatus:
    """The deployment's status with ``said`` (condition type -> words). A transition is when the status changed, not the words."""
    old = {condition.type: condition for condition in deployment.status.conditions}
    new = {kind: Condition(kind, words.status, words.reason, words.message, now) for kind, words in said.items()}
    for kind, condition in new.items():
        if kind in old and old[kind].status == condition.status:
            new[kind] = replace(condition, last_transition=old[kind].last_transition)
    return ResourceStatus(deployment.record.generation, tuple({**old, **new}.values()))
