"""A rollout: one deployment's artifacts spreading over its devices. The states it moves through, and what decides the next one.

``decide`` is pure: it is given the devices as they are and the time, and says what should be; the server makes it so.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_compress.domain.fleet import DeviceState
from edge_compress.domain.spec import RolloutPolicy
from edge_compress.errors import Conflict


class RolloutState(enum.StrEnum):
    """Where a rollout stands."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    COMPLETED = "Completed"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"


MOVES: dict[RolloutState, frozenset[RolloutState]] = {
    RolloutState.PENDING: frozenset({RolloutState.PROGRESSING, RolloutState.SUPERSEDED}),
    RolloutState.PROGRESSING: frozenset({RolloutState.COMPLETED, RolloutState.ABORTED, RolloutState.SUPERSEDED}),
    RolloutState.COMPLETED: frozenset({RolloutState.SUPERSEDED, RolloutState.PROGRESSING}),
    RolloutState.ABORTED: frozenset({RolloutState.SUPERSEDED}),
    RolloutState.SUPERSEDED: frozenset(),
}
"""A completed rollout progresses again when a device joins late."""


def check_move(old: RolloutState, new: RolloutState) -> None:
    """Raise Conflict unless ``old`` may become ``new``."""
    if new not in MOVES[old]:
        raise Conflict(f"a {old} rollout cannot become {new}")


@dataclass(frozen=True)
class RolloutSpec:
    """What is rolled out: ``artifacts`` maps profile -> artifact name and grows as jobs finish."""

    deployment: str
    model: str
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RolloutStatus:
    """How far it is. ``step`` is an index into the policy's steps; times are seconds since the epoch."""

    state: str = RolloutState.PENDING.value
    step: int = 0
    share: float = 0.0
    message: str = ""
    devices: Mapping[str, int] = field(default_factory=dict, metadata={"free": True})
    step_started_at: float = 0.0
    good_since: float = 0.0


@dataclass(frozen=True)
class Member:
    """A selected device as the rollout sees it. ``state`` is about this rollout's artifact: None when it was not offered yet."""

    name: str
    state: DeviceState | None
    offered_at: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What should be: the new status and the devices that may have the artifact."""

    status: RolloutStatus
    exposed: frozenset[str]


def decide(policy: RolloutPolicy, status: RolloutStatus, members: Sequence[Member], now: float, *, seed: str) -> Decision:
    """The next status of a rollout with ``members``. ``seed`` orders them, so that a share means the same devices each time."""
    state = RolloutState(status.state)
    if state in (RolloutState.ABORTED, RolloutState.SUPERSEDED):
        return Decision(status, frozenset())
    ordered = sorted(members, key=lambda member: hashlib.sha256(f"{seed}/{member.name}".encode()).digest())
    step = min(status.step, len(policy.steps) - 1)
    exposed = _exposed(ordered, policy.steps[step])
    tally = _tally(ordered, policy, now)
    if not ordered:
        waiting = RolloutStatus(state.value, step, policy.steps[step], "no device is selected yet", {}, status.step_started_at or now)
        return Decision(waiting, frozenset())
    failed, good, tried = (sum(member.name in exposed for member in tally[key]) for key in ("failed", "good", "tried"))
    counts = _counts(ordered, policy, now)
    started = status.step_started_at or now
    if tried >= min(policy.min_executed, len(exposed)) and failed and failed / tried >= policy.abort_at:
        why = f"{failed} of {tried} devices that tried failed; abort_at is {policy.abort_at:.0%}"
        return Decision(RolloutStatus(RolloutState.ABORTED.value, step, policy.steps[step], why, counts, started), frozenset())
    enough = good >= math.ceil(policy.advance_at * len(exposed))
    good_since = (status.good_since or now) if enough else 0.0
    message = f"step {step + 1} of {len(policy.steps)}: {good} of {len(exposed)} good, {failed} failed"
    if not enough or now - good_since < policy.soak:
        new = RolloutStatus(RolloutState.PROGRESSING.value, step, policy.steps[step], message, counts, started, good_since)
        return Decision(new, frozenset(exposed))
    if step + 1 < len(policy.steps):
        share = policy.steps[step + 1]
        new = RolloutStatus(RolloutState.PROGRESSING.value, step + 1, share, message, counts, now)
        return Decision(new, frozenset(_exposed(ordered, share)))
    new = RolloutStatus(RolloutState.COMPLETED.value, step, 1.0, message, counts, started, good_since)
    return Decision(new, frozenset(exposed))


def _exposed(ordered: Sequence[Member], share: float) -> set[str]:
    """The first ``share`` of the devices, and those that have it already: at least one device."""
    head = {member.name for member in ordered[: math.ceil(share * len(ordered))]}
    return head | {member.name for member in ordered if member.state is not None}


def _tally(members: Sequence[Member], policy: RolloutPolicy, now: float) -> dict[str, list[Member]]:
    good = [member for member in members if member.state is DeviceState.COMMITTED]
    failed = [member for member in members if member.state is DeviceState.ROLLED_BACK or _timed_out(member, policy, now)]
    return {"good": good, "failed": failed, "tried": good + failed}


def _timed_out(member: Member, policy: RolloutPolicy, now: float) -> bool:
    settled = member.state in (None, DeviceState.COMMITTED, DeviceState.ROLLED_BACK)
    return not settled and now - member.offered_at > policy.device_deadline


def _counts(members: Sequence[Member], policy: RolloutPolicy, now: float) -> dict[str, int]:
    counts: dict[str, int] = {}
    for member in members:
        if _timed_out(member, policy, now):
            state = "TimedOut"
        else:
            state = member.state.value if member.state else "Waiting"
        counts[state] = counts.get(state, 0) + 1
    return counts
