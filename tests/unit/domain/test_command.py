"""What people may tell a rollout to do, and when it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_compress.domain.command import Command, commanded
from edge_compress.domain.rollout import RolloutSpec, RolloutStatus
from edge_compress.domain.spec import RolloutPolicy
from edge_compress.errors import Conflict

POLICY = RolloutPolicy(steps=(0.1, 0.5, 1.0), soak=60.0)
FIRST = RolloutSpec("vision", "vision", {"cam": "b"})
LATER = replace(FIRST, base={"cam": "a"}, base_rollout="vision-1")
GOING = RolloutStatus("Progressing", step=0, share=0.1, exposed=("cam-1",), step_started_at=5.0, good_since=6.0)
DONE = RolloutStatus("Completed", step=2, share=1.0, completed=True)


def told(command: str, status: RolloutStatus = GOING, spec: RolloutSpec = LATER, reason: str = "") -> RolloutStatus:
    return commanded(Command(command), POLICY, spec, status, 100.0, reason)


def test_a_paused_rollout_says_why_and_goes_on_where_it_was() -> None:
    paused = told("pause", reason="looks hot")
    assert (paused.state, paused.held) == ("Paused", "looks hot")
    resumed = told("resume", paused)
    assert (resumed.state, resumed.held, resumed.exposed, resumed.good_since) == ("Progressing", "", ("cam-1",), 6.0)


def test_promotion_begins_the_next_step_and_waives_the_last_soak() -> None:
    second = told("promote", told("pause"))
    assert (second.state, second.step, second.share, second.exposed, second.good_since) == ("Progressing", 1, 0.5, (), 0.0)
    last = told("promote", replace(second, step=2))
    assert (last.step, last.promoted) == (2, True)


def test_a_promotion_that_is_repeated_with_its_step_skips_none() -> None:
    once = commanded(Command.PROMOTE, POLICY, LATER, GOING, 100.0, step=0)
    assert once.step == 1
    assert commanded(Command.PROMOTE, POLICY, LATER, once, 101.0, step=0) == once


def test_what_was_aborted_or_undone_is_nothing_to_go_back_to() -> None:
    assert "go back to vision-1" in told("abort").message
    assert "keep what they run" in told("abort", spec=FIRST).message
    undone = told("undo", DONE, reason="customers complain")
    assert (undone.state, undone.completed) == ("Aborted", False)
    assert undone.message == "undone: customers complain; devices go back to vision-1"


@pytest.mark.parametrize(
    ("command", "status", "spec", "why"),
    [
        ("undo", DONE, FIRST, "nothing to go back to"),
        ("abort", DONE, LATER, "Completed already"),
        ("pause", DONE, LATER, "Completed already"),
        ("resume", RolloutStatus(), LATER, "Pending, not Paused"),
        ("promote", RolloutStatus("Aborted"), LATER, "Aborted already"),
        ("resume", RolloutStatus("Superseded"), LATER, "Superseded already"),
    ],
)
def test_what_makes_no_sense_is_refused(command: str, status: RolloutStatus, spec: RolloutSpec, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        told(command, status, spec)


@pytest.mark.parametrize("command", ["pause", "abort", "resume"])
def test_a_repeat_changes_nothing(command: str) -> None:
    once = told(command, told("pause") if command == "resume" else GOING)
    assert told(command, once) == once
