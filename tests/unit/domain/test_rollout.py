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


def test_a_rollout_that_ends_for_its_devices_says_what_the_first_of_them_said() -> None:
    policy = RolloutPolicy(min_executed=1)
    hot, wrong = (Member(name, BAD, 100.0, message=f"it is {name}") for name in ("hot", "wrong"))
    told = decide(policy, PROGRESSING, [wrong, hot], 100.0, seed="r").status.message
    assert told == "2 of 2 devices that tried failed; abort_at is 5%; hot: it is hot"
    few = decide(replace(policy, abort_at=0.9), PROGRESSING, [hot, *members(good=2)], 100.0, seed="r").status.message
    assert few.endswith("advance_at is 95%; hot: it is hot")


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


def named(*names: str, state: DeviceState | None = None, **fields: float) -> list[Member]:
    return [Member(name, state, 100.0, **fields) for name in names]


def test_those_that_join_during_a_step_wait_for_the_last_one() -> None:
    policy = RolloutPolicy(steps=(0.5, 1.0), soak=60.0)
    first = decide(policy, RolloutStatus(), named("a", "b"), 100.0, seed="r")
    assert len(first.exposed) == 1
    grown = decide(policy, first.status, named("a", "b", "c", "d", "e", "f"), 101.0, seed="r")
    assert grown.exposed == first.exposed
    chosen = next(iter(first.exposed))
    others = [name for name in "abcdef" if name != chosen]
    good = [*named(chosen, state=GOOD), *named(*others)]
    soaking = decide(policy, grown.status, good, 102.0, seed="r")
    last = decide(policy, soaking.status, good, 163.0, seed="r")
    assert (last.status.step, last.exposed) == (1, frozenset("abcdef"))


def test_a_forgotten_device_leaves_the_count() -> None:
    policy = RolloutPolicy(steps=(0.5, 1.0), advance_at=1.0)
    first = decide(policy, RolloutStatus(), named("a", "b", "c", "d"), 100.0, seed="r")
    gone, kept = sorted(first.exposed)
    rest = [name for name in "abcd" if name not in first.exposed]
    after = decide(policy, first.status, [*named(kept, state=GOOD), *named(*rest)], 101.0, seed="r").status
    assert after.step == 1, f"{gone} holds nothing up"


def test_devices_that_failed_lately_are_no_canaries_and_come_when_their_time_is_over() -> None:
    policy = RolloutPolicy(steps=(0.5, 1.0))
    fleet = [*named("a", "b", penalty_until=500.0), *named("c", "d")]
    first = decide(policy, RolloutStatus(), fleet, 100.0, seed="r")
    assert first.exposed == frozenset("cd")
    assert first.status.devices == {"Penalised": 2, "Waiting": 2}
    held = [*named("a", "b", penalty_until=500.0), *named("c", "d", state=GOOD)]
    last = decide(policy, first.status, held, 200.0, seed="r")
    done = decide(policy, last.status, held, 201.0, seed="r")
    assert (done.status.state, done.exposed) == ("Completed", frozenset("cd"))
    again = decide(policy, done.status, held, 500.0, seed="r")
    assert (again.status.state, again.exposed) == ("Progressing", frozenset("abcd"))


def test_nobody_able_is_no_progress_and_no_failure() -> None:
    held = named("a", penalty_until=500.0)
    first = decide(CAREFUL, RolloutStatus(), held, 100.0, seed="r")
    assert first.exposed == frozenset()
    second = decide(CAREFUL, first.status, held, 101.0, seed="r")
    assert (second.status.state, second.status.message) == (
        "Progressing",
        "step 1 of 3: no device may begin yet",
    )
    assert decide(CAREFUL, second.status, held, 501.0, seed="r").exposed == frozenset("a")


def test_a_paused_rollout_reaches_nobody_new_and_still_ends_when_too_many_fail() -> None:
    paused = replace(PROGRESSING, state="Paused", held="by hand", exposed=("bad-0", "busy-0"))
    fleet = members(bad=1, busy=1, waiting=8)
    policy = replace(CAREFUL, min_executed=2)
    waiting = decide(policy, paused, fleet, 100.0, seed="r")
    assert waiting.exposed == frozenset({"bad-0", "busy-0"})
    assert (waiting.status.state, waiting.status.message.endswith("; paused: by hand")) == ("Paused", True)
    assert decide(replace(policy, min_executed=1), paused, fleet, 100.0, seed="r").status.state == "Aborted"
    last = decide(policy, replace(paused, step=2, exposed=()), members(good=2, waiting=2), 100.0, seed="r")
    assert last.exposed == {"good-0", "good-1"}


def test_a_promoted_step_does_not_soak() -> None:
    policy = replace(CAREFUL, soak=60.0)
    promoted = replace(PROGRESSING, step=2, promoted=True)
    assert decide(policy, promoted, members(good=3), 100.0, seed="r").status.state == "Completed"


def test_those_that_are_away_are_shown_apart() -> None:
    assert decide(CAREFUL, PROGRESSING, members(good=1), 100.0, seed="r", unreachable=3).status.devices == {
        "Committed": 1,
        "Unreachable": 3,
    }
    nobody = decide(CAREFUL, RolloutStatus(), [], 100.0, seed="r", unreachable=3).status
    assert (nobody.state, nobody.devices, nobody.message) == (
        "Pending",
        {"Unreachable": 3},
        "no device that is selected is there",
    )


def test_what_reached_everybody_is_not_taken_away_by_those_that_fail_later() -> None:
    done = replace(PROGRESSING, completed=True)
    late = decide(RolloutPolicy(), done, members(good=3, bad=1), 100.0, seed="r").status
    assert (late.state, late.completed) == ("Completed", True)
    assert decide(RolloutPolicy(), done, members(good=3, busy=1), 100.0, seed="r").status.state == "Progressing"


def test_each_profile_has_canaries_and_those_that_were_good_before_are_none() -> None:
    policy = RolloutPolicy(steps=(0.1, 1.0))
    before = [Member(f"hub-{number}", GOOD, 50.0, profile="hub") for number in range(20)]
    new = [Member(f"cam-{number}", None, profile="cam") for number in range(20)]
    first = decide(policy, RolloutStatus(), [*before, *new], 100.0, seed="r")
    assert len([name for name in first.exposed if name.startswith("cam")]) == 2
    assert len(first.status.exposed) == 2
    half = [*(replace(item, state=BAD, news_at=101.0) if item.name in first.exposed else item for item in new)]
    failed = decide(replace(policy, min_executed=2), first.status, [*before, *half], 102.0, seed="r").status
    assert failed.message == "2 of 2 devices that tried failed; abort_at is 5%"
    both = [Member(f"{profile}-{number}", None, profile=profile) for profile in ("cam", "hub") for number in range(5)]
    assert {name[:3] for name in decide(policy, RolloutStatus(), both, 100.0, seed="r").exposed} == {"cam", "hub"}
