"""A rollout: one deployment's artifacts spreading over its devices. The states it moves through, and what decides the next one.

``decide`` is pure: it is given the devices as they are and the time, and says what should be; the server makes it so.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
"""A completed rollout progresses again when a device joins late. One whose artifacts are replaced is another rollout under the
same name: it begins anew as PENDING, whatever it was."""


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
    """A selected device as the rollout sees it. ``state`` is about this rollout's artifact: None when it was not offered yet;
    ``news_at`` is when it was offered or last made a move towards it."""

    name: str
    state: DeviceState | None
    news_at: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What should be: the new status and the devices that may have the artifact."""

    status: RolloutStatus
    exposed: frozenset[str]


@dataclass(frozen=True)
class _Step:
    """How the devices that a step exposes are doing."""

    index: int
    share: float
    exposed: frozenset[str]
    good: int
    failed: int

    def needed(self, policy: RolloutPolicy) -> int:
        return _at_least(policy.advance_at, len(self.exposed))

    def failing(self, policy: RolloutPolicy) -> str:
        """Why the rollout must stop here; empty when it need not."""
        tried = self.good + self.failed
        if self.failed and tried >= min(policy.min_executed, len(self.exposed)) and self.failed / tried >= policy.abort_at:
            return f"{self.failed} of {tried} devices that tried failed; abort_at is {policy.abort_at:.0%}"
        if tried == len(self.exposed) and self.good < self.needed(policy):
            return f"only {self.good} of {tried} devices are good and none is left to try; advance_at is {policy.advance_at:.0%}"
        return ""

    def told(self, policy: RolloutPolicy) -> str:
        return f"step {self.index + 1} of {len(policy.steps)}: {self.good} of {len(self.exposed)} good, {self.failed} failed"


def decide(policy: RolloutPolicy, status: RolloutStatus, members: Sequence[Member], now: float, *, seed: str) -> Decision:
    """The next status of a rollout with ``members``, one allowed move from ``status`` at most.

    ``seed`` orders the members, so that a share means the same devices each time. A rollout whose devices all settle or fall
    silent ends: Completed, or Aborted when too many failed. ``exposed`` is empty once it ended badly: nobody new gets it.
    """
    state = RolloutState(status.state)
    if state in (RolloutState.ABORTED, RolloutState.SUPERSEDED):
        return Decision(status, frozenset())
    if not members:
        return Decision(_waiting(policy, status), frozenset())
    step = _stand(policy, min(status.step, len(policy.steps) - 1), members, now, seed)
    new = replace(_next(policy, status, step, now), devices=_counts(members, policy, now))
    if new.state == RolloutState.ABORTED:
        return Decision(new, frozenset())
    if new.step != step.index:
        step = _stand(policy, new.step, members, now, seed)
    return Decision(new, step.exposed)


def _next(policy: RolloutPolicy, status: RolloutStatus, step: _Step, now: float) -> RolloutStatus:
    state = RolloutState(status.state)
    enough = step.good >= step.needed(policy)
    here = replace(
        status,
        state=RolloutState.PROGRESSING.value,
        step=step.index,
        share=step.share,
        message=step.told(policy),
        step_started_at=status.step_started_at or now,
        good_since=(status.good_since or now) if enough else 0.0,
    )
    why = step.failing(policy)
    done = enough and not why and now - here.good_since >= policy.soak
    if state is not RolloutState.PROGRESSING:
        return replace(here, state=RolloutState.COMPLETED.value) if done and state is RolloutState.COMPLETED else here
    if why:
        return replace(here, state=RolloutState.ABORTED.value, message=why)
    if not done:
        return here
    if step.index + 1 == len(policy.steps):
        return replace(here, state=RolloutState.COMPLETED.value)
    return replace(here, step=step.index + 1, share=policy.steps[step.index + 1], step_started_at=now, good_since=0.0)


def _waiting(policy: RolloutPolicy, status: RolloutStatus) -> RolloutStatus:
    step = min(status.step, len(policy.steps) - 1)
    return replace(status, step=step, share=policy.steps[step], message="no device that is selected has joined yet", devices={})


def _stand(policy: RolloutPolicy, index: int, members: Sequence[Member], now: float, seed: str) -> _Step:
    exposed = _exposed(members, policy.steps[index], seed)
    among = [member for member in members if member.name in exposed]
    good = sum(member.state is DeviceState.COMMITTED for member in among)
    failed = sum(member.state is DeviceState.ROLLED_BACK or _timed_out(member, policy, now) for member in among)
    return _Step(index, policy.steps[index], exposed, good, failed)


def _exposed(members: Sequence[Member], share: float, seed: str) -> frozenset[str]:
    """The devices that have it already and, as far as the share allows, the next ones by ``seed``: at least one device."""
    having = [member.name for member in members if member.state is not None]
    free = _at_least(share, len(members)) - len(having)
    if free <= 0:
        return frozenset(having)
    rest = sorted((member.name for member in members if member.state is None), key=lambda name: _rank(seed, name))
    return frozenset(having + rest[:free])


def _rank(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _at_least(share: float, of: int) -> int:
    """``share`` of ``of`` devices, rounded up, never none; the small term keeps 7% of 100 from being 8."""
    return max(1, math.ceil(share * of - 1e-9))


def _timed_out(member: Member, policy: RolloutPolicy, now: float) -> bool:
    settled = member.state in (None, DeviceState.COMMITTED, DeviceState.ROLLED_BACK)
    return not settled and now - member.news_at > policy.device_deadline


def _counts(members: Sequence[Member], policy: RolloutPolicy, now: float) -> dict[str, int]:
    return dict(Counter(_told_state(member, policy, now) for member in members))


def _told_state(member: Member, policy: RolloutPolicy, now: float) -> str:
    if member.state is None:
        return "Waiting"
    return "TimedOut" if _timed_out(member, policy, now) else member.state.value
