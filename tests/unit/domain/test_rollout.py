"""The decisions of a rollout: single cases by hand, then whole random fleets played to their end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_compress.domain.fleet import DeviceState
from edge_compress.domain.rollout import MOVES, Member, RolloutState, RolloutStatus, check_move, decide
from edge_compress.domain.spec import RolloutPolicy
from edge_compress.errors import Conflict

GOOD, BAD, BUSY = DeviceState.COMMITTED, DeviceState.ROLLED_BACK, DeviceState.FETCHING
PROGRESSING = RolloutStatus(state="Progressing", step_started_at=1.0)
CAREFUL = RolloutPolicy(steps=(0.1, 0.5, 1.0))


def members(**groups: int) -> list[Member]:
    """``good=3, waiting=2``: so many members in that state."""
    states = {"good": GOOD, "bad": BAD, "busy": BUSY, "waiting": None}
    return [Member(f"{kind}-{index}", states[kind], 100.0) for kind, count in groups.items() for index in range(count)]


def test_the_first_step_exposes_its_share_and_begins() -> None:
    decision = decide(CAREFUL, RolloutStatus(), members(waiting=30), 100.0, seed="r")
    assert decision.status.state == RolloutState.PROGRESSING
    assert len(decision.exposed) == 3
    assert decision.status.step_started_at == 100.0
    assert decision.status.devices == {"Waiting": 30}


def test_a_share_is_not_rounded_up_by_floating_point() -> None:
    policy = RolloutPolicy(steps=(0.07, 1.0))
    assert len(decide(policy, RolloutStatus(), members(waiting=100), 0.0, seed="r").exposed) == 7


def test_the_same_devices_come_first_each_time() -> None:
    first = decide(CAREFUL, RolloutStatus(), members(waiting=30), 100.0, seed="r").exposed
    again = decide(CAREFUL, PROGRESSING, list(reversed(members(waiting=30))), 200.0, seed="r").exposed
    assert first == again
    assert first != decide(CAREFUL, RolloutStatus(), members(waiting=30), 100.0, seed="other").exposed


def test_a_good_step_lets_the_next_begin() -> None:
    decision = decide(CAREFUL, PROGRESSING, members(good=1, waiting=9), 100.0, seed="r")
    assert (decision.status.step, decision.status.share) == (1, 0.5)
    assert len(decision.exposed) == 5


def test_a_step_soaks_before_the_next_and_starts_over_when_it_turns() -> None:
    policy = replace(CAREFUL, soak=60.0)
    soaking = decide(policy, PROGRESSING, members(good=1, waiting=9), 100.0, seed="r").status
    assert (soaking.step, soaking.good_since) == (0, 100.0)
    turned = decide(policy, soaking, members(busy=1, waiting=9), 130.0, seed="r").status
    assert turned.good_since == 0.0
    assert decide(policy, soaking, members(good=1, waiting=9), 159.0, seed="r").status.step == 0
    assert decide(policy, soaking, members(good=1, waiting=9), 160.0, seed="r").status.step == 1


def test_failures_wait_for_min_executed() -> None:
    policy = RolloutPolicy(min_executed=3)
    assert decide(policy, PROGRESSING, members(bad=1, good=1, busy=8), 100.0, seed="r").status.state == "Progressing"
    aborted = decide(policy, PROGRESSING, members(bad=1, good=2, busy=7), 100.0, seed="r")
    assert aborted.status.state == "Aborted"
    assert aborted.exposed == frozenset()
    assert aborted.status.message == "1 of 3 devices that tried failed; abort_at is 5%"


def test_a_device_that_falls_silent_counts_as_failed() -> None:
    policy = RolloutPolicy(device_deadline=600.0)
    assert decide(policy, PROGRESSING, members(busy=1), 700.0, seed="r").status.state == "Progressing"
    late = decide(policy, PROGRESSING, members(busy=1), 700.1, seed="r").status
    assert (late.state, late.devices) == ("Aborted", {"TimedOut": 1})


def test_a_step_that_can_no_longer_be_good_enough_ends_instead_of_standing_still() -> None:
    policy = RolloutPolicy(abort_at=0.5, advance_at=0.95)
    stuck = decide(policy, PROGRESSING, members(good=8, bad=2), 100.0, seed="r").status
    assert stuck.state == "Aborted"
    assert "only 8 of 10 devices are good" in stuck.message
    assert decide(policy, PROGRESSING, members(good=7, bad=2, busy=1), 100.0, seed="r").status.state == "Progressing"


def test_a_device_that_joins_late_reopens_a_completed_rollout() -> None:
    done = RolloutStatus(state="Completed", step=0, share=1.0, good_since=50.0, step_started_at=10.0)
    assert decide(RolloutPolicy(), done, members(good=2), 100.0, seed="r").status.state == "Completed"
    reopened = decide(RolloutPolicy(), done, members(good=2, waiting=1), 100.0, seed="r")
    assert reopened.status.state == "Progressing"
    assert "waiting-0" in reopened.exposed


def test_no_device_yet_is_no_progress() -> None:
    decision = decide(CAREFUL, RolloutStatus(), [], 100.0, seed="r")
    assert (decision.status.state, decision.exposed) == ("Pending", frozenset())
    assert "joined" in decision.status.message


@pytest.mark.parametrize("state", ["Aborted", "Superseded"])
def test_what_ended_badly_stays_so(state: str) -> None:
    ended = RolloutStatus(state=state, message="why")
    decision = decide(CAREFUL, ended, members(good=10), 100.0, seed="r")
    assert (decision.status, decision.exposed) == (ended, frozenset())


def test_a_superseded_rollout_cannot_move() -> None:
    with pytest.raises(Conflict, match="Superseded"):
        check_move(RolloutState.SUPERSEDED, RolloutState.PROGRESSING)


FATES = st.sampled_from(["good", "bad", "silent"])
POLICIES = st.builds(
    lambda inner, advance, abort, executed, soak: RolloutPolicy(
        steps=(*sorted(set(inner)), 1.0), advance_at=advance, abort_at=abort, min_executed=executed, soak=soak
    ),
    st.lists(st.floats(0.01, 0.99), max_size=4),
    st.floats(0.5, 1.0),
    st.floats(0.01, 1.0),
    st.integers(1, 10),
    st.sampled_from([0.0, 60.0]),
)


@settings(max_examples=200, deadline=None)
@given(POLICIES, st.lists(FATES, min_size=1, max_size=40), st.integers(0, 2**32))
def test_random_fleets(policy: RolloutPolicy, fates: list[str], seed: int) -> None:
    """Never more exposed than the step's share; always an end; Completed only without too many failures."""
    fate = {f"d{index}": outcome for index, outcome in enumerate(fates)}
    fleet = {name: Member(name, None) for name in fate}
    status, now, step = RolloutStatus(), 0.0, -1
    for _ in range(1000):
        decision = decide(policy, status, list(fleet.values()), now, seed=str(seed))
        old, new = RolloutState(status.state), RolloutState(decision.status.state)
        assert old is new or new in MOVES[old]
        status = decision.status
        if new in (RolloutState.ABORTED, RolloutState.COMPLETED):
            break
        if (old, status.step) == (new, step):
            assert not _too_many_failed(policy, fleet, decision.exposed, now)
        step = status.step
        assert len(decision.exposed) <= max(1, math.ceil(policy.steps[status.step] * len(fleet) - 1e-9))
        fleet = {name: step_of(member, fate[name], name in decision.exposed, now) for name, member in fleet.items()}
        now += 61.0
    _check_end(policy, status, fleet, now)


def step_of(member: Member, fate: str, exposed: bool, now: float) -> Member:
    if member.state is None:
        return replace(member, state=DeviceState.IDLE, news_at=now) if exposed else member
    if member.state is DeviceState.IDLE and fate != "silent":
        return replace(member, state=GOOD if fate == "good" else BAD, news_at=now)
    return member


def _too_many_failed(policy: RolloutPolicy, fleet: dict[str, Member], exposed: frozenset[str], now: float) -> bool:
    good, failed = _outcomes(fleet, now)
    enough = good + failed >= min(policy.min_executed, len(exposed))
    return bool(failed) and enough and failed / (good + failed) >= policy.abort_at


def _outcomes(fleet: dict[str, Member], now: float) -> tuple[int, int]:
    """How many are good, and how many failed or fell silent."""
    tried = [member for member in fleet.values() if member.state is not None]
    good = sum(member.state is GOOD for member in tried)
    return good, sum(member.state is BAD or (member.state is not GOOD and now - member.news_at > 600) for member in tried)


def _check_end(policy: RolloutPolicy, status: RolloutStatus, fleet: dict[str, Member], now: float) -> None:
    assert status.state in ("Completed", "Aborted")
    exposed = [member for member in fleet.values() if member.state is not None]
    good, failed = _outcomes(fleet, now)
    if status.state == "Completed":
        assert len(exposed) == len(fleet)
        assert good >= policy.advance_at * len(fleet) - 1e-6
        tried = good + failed
        assert not failed or tried < min(policy.min_executed, len(fleet)) or failed / tried < policy.abort_at
    else:
        assert failed
