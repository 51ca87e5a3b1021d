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
from edge_compress.domain.gates import Finding, Verdict, overall
from edge_compress.domain.spec import RolloutPolicy
from edge_compress.errors import Conflict

WAITING, PENALISED, METERED, TIMED_OUT, UNREACHABLE = "Waiting", "Penalised", "Metered", "TimedOut", "Unreachable"
"""what a rollout counts beside the states of devices: not offered yet; not offered because it failed lately, or because the
policy keeps it off its metered link; offered and silent; selected but away, and never offered"""


class RolloutState(enum.StrEnum):
    """Where a rollout stands."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"


_ENDS = frozenset({RolloutState.ABORTED, RolloutState.SUPERSEDED})
MOVES: dict[RolloutState, frozenset[RolloutState]] = {
    RolloutState.PENDING: frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED, *_ENDS}),
    RolloutState.PROGRESSING: frozenset({RolloutState.COMPLETED, RolloutState.PAUSED, *_ENDS}),
    RolloutState.PAUSED: frozenset({RolloutState.PROGRESSING, *_ENDS}),
    RolloutState.COMPLETED: frozenset({RolloutState.PROGRESSING, *_ENDS}),
    RolloutState.ABORTED: frozenset({RolloutState.SUPERSEDED}),
    RolloutState.SUPERSEDED: frozenset(),
}
"""A completed rollout progresses again when a device joins late, and is aborted when somebody undoes it. One whose artifacts are
replaced is another rollout under the same name: it begins anew as PENDING, whatever it was."""


def check_move(old: RolloutState, new: RolloutState) -> None:
    """Raise Conflict unless ``old`` may become ``new``."""
    if new not in MOVES[old]:
        raise Conflict(f"a {old} rollout cannot become {new}")


@dataclass(frozen=True)
class Ladder:
    """What devices of a profile may take instead of its artifact: names, the best first."""

    profile: str
    artifacts: tuple[str, ...]


@dataclass(frozen=True)
class RolloutSpec:
    """What is rolled out: ``artifacts`` maps profile -> artifact name and grows as jobs finish.

    ``base`` is what its devices go back to where it fails: the artifacts of ``base_rollout``, the last one of the deployment that
    reached everybody. Empty: there was none.
    """

    deployment: str
    model: str
    artifacts: Mapping[str, str] = field(default_factory=dict)
    base: Mapping[str, str] = field(default_factory=dict)
    base_rollout: str = ""
    ladders: tuple[Ladder, ...] = ()
    """by profile; one without has no fallbacks"""

    def fallbacks(self, profile: str) -> tuple[str, ...]:
        """Next-best artifacts for a profile."""
        return next((one.artifacts for one in self.ladders if one.profile == profile), ())


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
    exposed: tuple[str, ...] = ()
    """names of the current step's devices, chosen when it began; empty in the last step, which is for everybody"""
    held: str = ""
    """why it is paused; empty: it is not"""
    waits_for_gates: bool = False
    """it is paused because a gate is inconclusive, and goes on by itself once none is"""
    gates: tuple[Finding, ...] = ()
    """what each gate found last"""
    promoted: bool = False
    """the current step needs no soak: somebody vouched for it"""
    completed: bool = False
    """it reached everybody and was not given up since, so that a later one may go back to it"""
    began_at: float = 0.0
    """who was good before is no part of any step"""


@dataclass(frozen=True)
class Member:
    """A selected device as the rollout sees it. ``state`` is about this rollout's artifact: None when it was not offered yet;
    ``news_at`` is when it was offered or last made a move towards it. Until ``penalty_until`` it is offered nothing new."""

    name: str
    state: DeviceState | None
    news_at: float = 0.0
    penalty_until: float = 0.0
    profile: str = ""
    """what its artifact is made for: each has canaries of its own"""
    moved_at: float | None = None
    """when it last moved itself; None: as ``news_at``"""
    metered: bool = False
    """the policy keeps what it would be offered off its link"""
    message: str = ""
    """what it said last, for example why it rolled back"""
    fetching_seconds: float = 0.0
    """what its link takes for the download, added to its deadline until it has that"""

    def may_begin(self, now: float) -> bool:
        """Whether it may be offered something new."""
        return self.penalty_until <= now and not self.metered

    def was_good(self, began: float) -> bool:
        """Whether it had the artifact before the rollout began."""
        moved = self.news_at if self.moved_at is None else self.moved_at
        return self.state is DeviceState.COMMITTED and moved < began


@dataclass(frozen=True)
class Decision:
    """What should be: the new status and the devices that may have the artifact."""

    status: RolloutStatus
    exposed: frozenset[str]


@dataclass(frozen=True)
class _Step:
    """How the devices of a step are doing. ``counted``: those that were chosen when it began; ``exposed``: these, and others that
    have the artifact anyway."""

    index: int
    share: float
    counted: frozenset[str]
    exposed: frozenset[str]
    good: int
    failed: int
    why: str = ""
    """what the first of those that rolled back said"""

    def needed(self, policy: RolloutPolicy) -> int:
        return _at_least(policy.advance_at, len(self.counted))

    def failing(self, policy: RolloutPolicy) -> str:
        """Why the rollout must stop here; empty when it need not."""
        tried, whole = self.good + self.failed, len(self.counted)
        said = f"; {self.why}" if self.why else ""
        if self.failed and tried >= min(policy.min_executed, whole) and self.failed / tried >= policy.abort_at:
            return f"{self.failed} of {tried} devices that tried failed; abort_at is {policy.abort_at:.0%}{said}"
        if whole and tried == whole and self.good < self.needed(policy):
            few = f"only {self.good} of {tried} devices are good and none is left to try"
            return f"{few}; advance_at is {policy.advance_at:.0%}{said}"
        return ""

    def told(self, policy: RolloutPolicy) -> str:
        here = f"step {self.index + 1} of {len(policy.steps)}"
        if not self.counted:
            return f"{here}: no device may begin yet"
        return f"{here}: {self.good} of {len(self.counted)} good, {self.failed} failed"

    def frozen(self, policy: RolloutPolicy) -> tuple[str, ...]:
        """What a status keeps of it."""
        return () if self.index + 1 == len(policy.steps) else tuple(sorted(self.counted))


def decide(
    policy: RolloutPolicy,
    status: RolloutStatus,
    members: Sequence[Member],
    now: float,
    *,
    seed: str,
    unreachable: int = 0,
    gates: tuple[Finding, ...] = (),
) -> Decision:
    """The next status of a rollout with ``members``, one allowed move from ``status`` at most.

    ``seed`` orders the members, so that a share means the same devices each time. Who belongs to a step is decided when it
    begins: those that join later wait for the last one, those that are forgotten no longer count. A rollout whose devices
    all settle or fall silent ends: Completed, or Aborted when too many failed. ``exposed`` is empty once it ended badly:
    nobody new gets it. ``unreachable``: selected devices that are away and were offered nothing; they are shown, and hold
    nothing up.
    """
    state = RolloutState(status.state)
    if state in (RolloutState.ABORTED, RolloutState.SUPERSEDED):
        return Decision(status, frozenset())
    if not members:
        return Decision(_waiting(policy, status, unreachable), frozenset())
    here = replace(
        status,
        step=min(status.step, len(policy.steps) - 1),
        gates=gates or status.gates,
        began_at=status.began_at or now,
    )
    step = _stand(policy, here, members, now, seed)
    new = _next(policy, here, step, now, gates)
    if new.state == RolloutState.ABORTED:
        return Decision(replace(new, devices=_counts(members, policy, now, unreachable)), frozenset())
    if new.step != step.index:
        step = _stand(policy, new, members, now, seed)
    new = replace(new, exposed=step.frozen(policy), devices=_counts(members, policy, now, unreachable))
    return Decision(new, step.exposed)


def _next(policy: RolloutPolicy, status: RolloutStatus, step: _Step, now: float, gates: Sequence[Finding]) -> RolloutStatus:
    state = RolloutState(status.state)
    enough = bool(step.counted) and step.good >= step.needed(policy)
    here = replace(
        status,
        state=RolloutState.PAUSED.value if state is RolloutState.PAUSED else RolloutState.PROGRESSING.value,
        step=step.index,
        share=step.share,
        message=step.told(policy),
        step_started_at=status.step_started_at or now,
        good_since=(status.good_since or now) if enough else 0.0,
    )
    why, verdict = step.failing(policy) or _told(gates, Verdict.FAIL), overall(gates)
    done = enough and not why and (status.promoted or now - here.good_since >= policy.soak)
    if status.completed and state is not RolloutState.PAUSED:
        # It reached everybody once: devices that join or fail later take nobody else's away. That is for people to undo.
        settled = step.good + step.failed == len(step.counted)
        return replace(here, state=RolloutState.COMPLETED.value) if settled else here
    if why and state is not RolloutState.PENDING:
        return replace(here, state=RolloutState.ABORTED.value, message=why, held="", waits_for_gates=False, completed=False)
    if state is RolloutState.PAUSED:
        if status.waits_for_gates and verdict is Verdict.PASS:
            return replace(here, state=RolloutState.PROGRESSING.value, held="", waits_for_gates=False)
        held = _told(gates, Verdict.INCONCLUSIVE) if status.waits_for_gates and gates else status.held
        return replace(here, held=held, message=f"{here.message}; paused: {held}")
    if not done or state is RolloutState.PENDING:
        return here
    if verdict is Verdict.INCONCLUSIVE and not status.promoted:
        held = _told(gates, Verdict.INCONCLUSIVE)
        paused = replace(here, state=RolloutState.PAUSED.value, held=held, waits_for_gates=True)
        return replace(paused, message=f"{here.message}; paused: {held}")
    if step.index + 1 == len(policy.steps):
        return replace(here, state=RolloutState.COMPLETED.value, completed=True)
    return begun(policy, here, step.index + 1, now)


def _told(gates: Sequence[Finding], verdict: Verdict) -> str:
    """The gates of that verdict in words; empty where none is."""
    said = {Verdict.FAIL: "failed", Verdict.INCONCLUSIVE: "is inconclusive", Verdict.PASS: "holds"}[verdict]
    return "; ".join(f"gate {item.metric} {said}: {item.message}" for item in gates if item.verdict == verdict)


def begun(policy: RolloutPolicy, status: RolloutStatus, step: int, now: float) -> RolloutStatus:
    """The status in which a step begins; ``decide`` chooses its devices."""
    fresh = replace(status, step=step, share=policy.steps[step], step_started_at=now, good_since=0.0)
    return replace(fresh, exposed=(), promoted=False, waits_for_gates=False)


def _waiting(policy: RolloutPolicy, status: RolloutStatus, unreachable: int) -> RolloutStatus:
    step = min(status.step, len(policy.steps) - 1)
    away = {UNREACHABLE: unreachable} if unreachable else {}
    nobody = "no device that is selected has joined yet, or a newer deployment has them"
    message = nobody if not unreachable else "no device that is selected is there"
    return replace(status, step=step, share=policy.steps[step], message=message, devices=away)


def _stand(policy: RolloutPolicy, status: RolloutStatus, members: Sequence[Member], now: float, seed: str) -> _Step:
    fresh = [member for member in members if not member.was_good(status.began_at)] or members
    having = frozenset(member.name for member in members if member.state is not None)
    kept = frozenset(member.name for member in members).intersection(status.exposed)
    last, paused = status.step + 1 == len(policy.steps), status.state == RolloutState.PAUSED
    if last and not paused:
        counted = frozenset(item.name for item in fresh if item.state is not None or item.may_begin(now))
    else:
        begun_with = frozenset(item.name for item in fresh if item.state is not None)
        counted = kept or (begun_with if last or paused else _chosen(fresh, policy.steps[status.step], now, seed))
    among = [member for member in members if member.name in counted]
    good = sum(member.state is DeviceState.COMMITTED for member in among)
    failed = sum(member.state is DeviceState.ROLLED_BACK or _timed_out(member, policy, now) for member in among)
    said = sorted(f"{one.name}: {one.message}" for one in among if one.state is DeviceState.ROLLED_BACK and one.message)
    return _Step(status.step, policy.steps[status.step], counted, counted | having, good, failed, "".join(said[:1]))


def _chosen(members: Sequence[Member], share: float, now: float, seed: str) -> frozenset[str]:
    """Of each profile the devices that have it already and, as far as the share allows, the next ones by ``seed``: at least
    one. Those that failed lately come later."""
    profiles = {member.profile for member in members}
    groups = [[member for member in members if member.profile == profile] for profile in profiles]
    return frozenset[str]().union(*(_chosen_of(group, share, now, seed) for group in groups))


def _chosen_of(members: Sequence[Member], share: float, now: float, seed: str) -> frozenset[str]:
    having = [member.name for member in members if member.state is not None]
    free = _at_least(share, len(members)) - len(having)
    if free <= 0:
        return frozenset(having)
    able = [member.name for member in members if member.state is None and member.may_begin(now)]
    return frozenset(having + sorted(able, key=lambda name: _rank(seed, name))[:free])


def _rank(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _at_least(share: float, of: int) -> int:
    """``share`` of ``of`` devices, rounded up, never none; the small term keeps 7% of 100 from being 8."""
    return max(1, math.ceil(share * of - 1e-9))


_UNTIL_FETCHED = frozenset({DeviceState.IDLE, DeviceState.PREFLIGHT, DeviceState.FETCHING})


def _timed_out(member: Member, policy: RolloutPolicy, now: float) -> bool:
    settled = member.state in (None, DeviceState.COMMITTED, DeviceState.ROLLED_BACK)
    patience = policy.device_deadline + (member.fetching_seconds if member.state in _UNTIL_FETCHED else 0.0)
    return not settled and now - member.news_at > patience


def _counts(members: Sequence[Member], policy: RolloutPolicy, now: float, unreachable: int) -> dict[str, int]:
    counts = Counter(_told_state(member, policy, now) for member in members)
    return dict(counts + Counter({UNREACHABLE: unreachable}))


def _told_state(member: Member, policy: RolloutPolicy, now: float) -> str:
    if member.state is None:
        return METERED if member.metered else PENALISED if member.penalty_until > now else WAITING
    return TIMED_OUT if _timed_out(member, policy, now) else member.state.value
