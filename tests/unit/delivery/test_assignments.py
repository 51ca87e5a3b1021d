"""Where a device stands with an assignment, and whether it must be told."""

from __future__ import annotations

import pytest

from edge_compress.delivery.assignments import assignment_for, must_be_sent, standing
from edge_compress.domain.fleet import DeviceState, DeviceStatus
from edge_compress.domain.rollout import RolloutSpec
from edge_compress.domain.session import Assignment
from tests.unit.delivery.makers import artifact, profile

ONE, TWO = artifact("one"), artifact("two")
SPEC = RolloutSpec("vision", "vision")


def made(rollout: str = "vision-1", thing=ONE, **limits: object) -> Assignment:
    return assignment_for(rollout, SPEC, thing, profile(**limits).spec)


def test_an_assignment_carries_the_limits_of_the_profile() -> None:
    assignment = made(latency_p95="200ms", memory="64Mi", threads=2, rate="3/s")
    assert (assignment.latency_p95_seconds, assignment.memory_bytes, assignment.threads) == (0.2, 64 * 2**20, 2)
    assert (assignment.self_test_per_second, assignment.rollout, assignment.deployment) == (3.0, "vision-1", "vision")
    assert made().latency_p95_seconds is None
    assert made(rate="100/s").self_test_per_second == 5.0


def test_other_terms_are_another_assignment() -> None:
    ids = {
        made().id,
        made("vision-2").id,
        made(thing=TWO).id,
        made(memory="1Mi").id,
        made(threads=4).id,
        made(latency_p95="1s").id,
    }
    assert len(ids) == 6
    assert made().id == made().id


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (DeviceStatus(), None),
        (DeviceStatus(offered=made().id), DeviceState.IDLE),
        (DeviceStatus(offered=made().id, assignment=made("vision-0", TWO).id, state="RolledBack"), DeviceState.IDLE),
        (DeviceStatus(assignment=made().id, state="Trial"), DeviceState.TRIAL),
        (DeviceStatus(assignment=made("vision-0").id, state="Committed"), DeviceState.COMMITTED),
        (DeviceStatus(assignment=made("vision-0").id, state="RolledBack"), None),
        (DeviceStatus(assignment=made("vision-0", TWO).id, state="Committed"), None),
    ],
)
def test_standing(status: DeviceStatus, expected: DeviceState | None) -> None:
    assert standing(status, made()) is expected


@pytest.mark.parametrize(
    ("state", "assignment", "current", "told"),
    [
        ("Committed", made().id, ONE.sha256, False),
        ("Committed", made().id, TWO.sha256, True),
        ("Committed", made("vision-0").id, ONE.sha256, False),
        ("RolledBack", made().id, TWO.sha256, False),
        ("RollingBack", made().id, TWO.sha256, False),
        ("Fetching", made().id, TWO.sha256, True),
        ("Idle", "", "", True),
    ],
)
def test_who_must_be_told(state: str, assignment: str, current: str, told: bool) -> None:
    assert must_be_sent(DeviceStatus(state=state, assignment=assignment), current, made()) is told
