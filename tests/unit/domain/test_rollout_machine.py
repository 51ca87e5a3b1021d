"""A rollout under whatever may happen: devices that join, fail, fall silent and are forgotten, commands, gates that change their
mind, time that jumps. What must hold always, and that it always ends."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_compress.domain.command import Command, commanded
from edge_compress.domain.fleet import DeviceState
from edge_compress.domain.gates import Finding, Verdict
from edge_compress.domain.rollout import MOVES, Decision, Member, RolloutSpec, RolloutState, RolloutStatus, decide
from edge_compress.domain.spec import RolloutPolicy
from edge_compress.errors import Conflict

SPEC = RolloutSpec("vision", "vision", {"cam": "b"}, {"cam": "a"}, "vision-1")
ENDED = (RolloutState.COMPLETED, RolloutState.ABORTED)
STATES = st.sampled_from([DeviceState.FETCHING, DeviceState.COMMITTED, DeviceState.COMMITTED, DeviceState.ROLLED_BACK])
NAMES = st.integers(0, 30).map(lambda number: f"cam-{number}")


class Rollout(RuleBasedStateMachine):
    """The server's part is ``decide`` and ``commanded``; the devices' part is played."""

    def __init__(self) -> None:
        super().__init__()
        self.status, self.now = RolloutStatus(), 1000.0
        self.members: dict[str, Member] = {}
        self.gates: tuple[Finding, ...] = ()
        self.ever: set[str] = set()
        self.allowed = 0
        self.fresh: set[str] = set()

    @initialize(
        steps=st.lists(st.sampled_from([0.1, 0.25, 0.5]), max_size=2, unique=True),
        abort_at=st.sampled_from([0.05, 0.3, 0.9]),
        soak=st.sampled_from([0.0, 30.0]),
        count=st.integers(0, 20),
        having=st.sampled_from([0, 0, 3, 8]),
    )
    def begin(self, steps: list[float], abort_at: float, soak: float, count: int, having: int) -> None:
        self.policy = RolloutPolicy(steps=(*sorted(steps), 1.0), abort_at=abort_at, soak=soak, min_executed=2)
        states = [DeviceState.COMMITTED if number < having else None for number in range(count)]
        self.members = {f"cam-{number}": Member(f"cam-{number}", state, self.now) for number, state in enumerate(states)}

    def look(self) -> None:
        """One pass of the server, and what it offers reaches the devices."""
        old = self.status
        last = old.step + 1 >= len(self.policy.steps)
        gates = () if last else self.gates
        decision: Decision = decide(self.policy, old, list(self.members.values()), self.now, seed="r", gates=gates)
        before, after = RolloutState(old.state), RolloutState(decision.status.state)
        assert before is after or after in MOVES[before], (before, after)
        self.fresh = {name for name in decision.exposed if self.members[name].state is None}
        if self.fresh:
            assert after is RolloutState.PROGRESSING, "nobody new while it is paused, and nobody once it was given up"
            assert all(self.members[name].penalty_until <= self.now for name in self.fresh)
            counted = {name for name, item in self.members.items() if not item.was_good(decision.status.began_at)}
            share = math.ceil(self.policy.steps[decision.status.step] * len(counted) - 1e-9)
            having = {name for name in counted if self.members[name].state is not None}
            assert len(having | self.fresh) <= max(1, share, len(having)), "no more than the step's share"
        if after is RolloutState.PROGRESSING and decision.status.step > old.step:
            assert not any(item.verdict == Verdict.FAIL for item in gates)
        for name in self.fresh:
            self.members[name] = replace(self.members[name], state=DeviceState.IDLE, news_at=self.now)
        self.ever |= self.fresh
        self.status = decision.status

    @rule(name=NAMES, penalty=st.sampled_from([0.0, 0.0, 60.0]), has_it=st.booleans())
    def joins(self, name: str, penalty: float, has_it: bool) -> None:
        state = DeviceState.COMMITTED if has_it else None  # by an earlier rollout of the same artifact
        self.members.setdefault(name, Member(name, state, self.now, self.now + penalty if penalty else 0.0))
        self.look()

    @rule(name=NAMES)
    def is_forgotten(self, name: str) -> None:
        self.members.pop(name, None)
        self.look()

    @rule(
        name=NAMES,
        state=st.sampled_from([DeviceState.FETCHING, DeviceState.COMMITTED, DeviceState.COMMITTED, DeviceState.ROLLED_BACK]),
    )
    def moves(self, name: str, state: DeviceState) -> None:
        member = self.members.get(name)
        if member is not None and member.state not in (None, DeviceState.ROLLED_BACK):
            self.members[name] = replace(member, state=state, news_at=self.now)
        self.look()

    @rule(seconds=st.sampled_from([0.5, 29.0, 31.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.look()

    @rule(verdict=st.sampled_from(list(Verdict)))
    def gates_find(self, verdict: Verdict) -> None:
        self.gates = (Finding("latency_p95", verdict.value, "cam: figures"),)
        self.look()

    @rule(command=st.sampled_from([Command.PAUSE, Command.RESUME, Command.PROMOTE, Command.UNDO]))
    @precondition(lambda self: bool(self.members))
    def is_told(self, command: Command) -> None:
        before = RolloutState(self.status.state)
        try:
            self.status = commanded(command, self.policy, SPEC, self.status, self.now)
        except Conflict:
            return
        after = RolloutState(self.status.state)
        assert before is after or after in MOVES[before]
        self.look()

    @invariant()
    def says_what_it_is(self) -> None:
        told = self.status
        assert bool(told.held) == (told.state == RolloutState.PAUSED)
        assert not told.waits_for_gates or told.state == RolloutState.PAUSED
        assert not told.completed or told.state in (RolloutState.COMPLETED, RolloutState.PROGRESSING, RolloutState.PAUSED)

    def teardown(self) -> None:
        """Whatever happened: once gates hold, nobody holds it and every device settles or falls silent, it ends."""
        if not hasattr(self, "policy") or not self.members:
            return
        self.gates = ()
        if self.status.state == RolloutState.PAUSED:
            self.status = commanded(Command.RESUME, self.policy, SPEC, self.status, self.now)
        for turn in range(200):
            penalties = any(item.state is None and item.penalty_until > self.now for item in self.members.values())
            if self.status.state == RolloutState.ABORTED or (self.status.state in ENDED and not self.fresh and not penalties):
                break
            for number, (name, member) in enumerate(sorted(self.members.items())):
                if member.state not in (None, DeviceState.COMMITTED, DeviceState.ROLLED_BACK) and (number + turn) % 5:
                    self.members[name] = replace(member, state=DeviceState.COMMITTED, news_at=self.now)
            self.now += 61.0
            self.look()
        assert self.status.state in ENDED, self.status
        if self.status.state == RolloutState.COMPLETED:
            assert all(member.state is not None for member in self.members.values())


TestRollout = Rollout.TestCase
TestRollout.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
