"""What a deployment is told of itself: the conditions Compressed and RolledOut. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_compress.delivery.demand import Progress
from edge_compress.delivery.world import StoredDeployment
from edge_compress.domain.resource import Condition, ResourceStatus
from edge_compress.domain.rollout import RolloutState, RolloutStatus

COMPRESSED = "Compressed"
ROLLED_OUT = "RolledOut"


def rolled_out(rollout: RolloutStatus | None) -> Progress:
    """How far the rollout is, in the words of a condition."""
    if rollout is None:
        return Progress("False", "Waiting", "there is no artifact to deliver yet")
    status = "True" if rollout.state == RolloutState.COMPLETED else "False"
    return Progress(status, rollout.state, rollout.message)


def with_conditions(deployment: StoredDeployment, said: Mapping[str, Progress], now: float) -> ResourceStatus:
    """The deployment's status with ``said`` (condition type -> words). A transition is when the status changed, not the words."""
    old = {condition.type: condition for condition in deployment.status.conditions}
    new = {kind: Condition(kind, words.status, words.reason, words.message, now) for kind, words in said.items()}
    for kind, condition in new.items():
        if kind in old and old[kind].status == condition.status:
            new[kind] = replace(condition, last_transition=old[kind].last_transition)
    return ResourceStatus(deployment.record.generation, tuple({**old, **new}.values()))
