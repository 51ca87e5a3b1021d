from __future__ import annotations

import json

import pytest

from edge_compress.agent.machine import Assignment, Position, from_plain, to_plain
from edge_compress.domain.fleet import DeviceState
from edge_compress.errors import Conflict, InvalidSpec


def assignment(name: str = "one", digit: str = "a", **changes) -> Assignment:
    given = {
        "id": name, "artifact": f"vision-{name}", "model": "vision", "sha256": digit * 64, "bytes": 100,
        "golden_sha256": "f" * 64, "golden_bytes": 10, "golden_samples": 2,
    }  # fmt: skip
    return Assignment(**{**given, **changes})


def committed(name: str, digit: str, start: Position) -> Position:
    position = start.assigned(assignment(name, digit))
    for state in (DeviceState.FETCHING, DeviceState.VERIFYING, DeviceState.STAGED, DeviceState.PROBING, DeviceState.TRIAL):
        position = position.moved(state)
    return position.committed()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"sha256": "A" * 64},
        {"sha256": "a" * 63},
        {"golden_sha256": "../../etc/passwd"},
        {"file_name": "../model.onnx"},
        {"file_name": "manifest.json"},
        {"file_name": ".hidden"},
        {"bytes": 0},
        {"threads": 0},
        {"threads": 257},
    ],
)
def test_an_assignment_that_cannot_be_carried_out_does_not_exist(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec, match=next(iter(changes))):
        assignment(**changes)


def test_a_commit_keeps_what_served_before_for_a_roll_back() -> None:
    first = committed("one", "a", Position())
    second = committed("two", "b", first)
    assert (first.serving.id, first.previous) == ("one", None)
    assert (second.serving.id, second.previous.id) == ("two", "one")
    back = second.rolling_back("it crashed")
    assert (back.state, back.serving.id, back.previous, back.message) == (DeviceState.ROLLING_BACK, "one", None, "it crashed")


def test_the_same_model_assigned_again_keeps_the_other_one_to_go_back_to() -> None:
    second = committed("two", "b", committed("one", "a", Position()))
    again = committed("three", "b", second)
    assert (again.serving.id, again.previous.id) == ("three", "one")


def test_a_failed_update_leaves_what_serves() -> None:
    failed = committed("one", "a", Position()).assigned(assignment("two", "b")).rolling_back("too slow")
    rolled_back = failed.moved(DeviceState.ROLLED_BACK)
    assert rolled_back.serving.id == "one"
    assert rolled_back.needed == {"a" * 64}
    assert failed.needed == {"a" * 64, "b" * 64}


def test_the_table_of_moves_holds() -> None:
    with pytest.raises(Conflict):
        Position().moved(DeviceState.TRIAL)
    rolling_back = Position().assigned(assignment()).rolling_back("no room")
    with pytest.raises(Conflict):
        rolling_back.assigned(assignment("two"))


def test_a_move_forgets_the_restarts_of_the_state_before() -> None:
    position = Position(DeviceState.PROBING, assignment(), restarts=2)
    assert position.moved(DeviceState.TRIAL).restarts == 0


def test_positions_survive_json_and_unknown_fields_of_a_newer_version() -> None:
    position = committed("two", "b", committed("one", "a", Position()))
    plain = json.loads(json.dumps(to_plain(position)))
    plain["mood"] = "fine"
    plain["serving"]["colour"] = "blue"
    assert from_plain(plain) == position


def test_a_candidate_gives_way_to_the_next_best_with_the_reason() -> None:
    last = assignment("one", "c", artifact="third")
    first = assignment("one", "a", artifact="first", fallbacks=(assignment("one", "b", artifact="second"), last))
    position = Position().assigned(first).moved(DeviceState.FETCHING, alone=True, base="d" * 64)
    second = position.fallen_back("too slow here")
    assert (second.state, second.assignment.artifact, second.message) == (
        DeviceState.PREFLIGHT,
        "second",
        "not first: too slow here",
    )
    assert (second.alone, second.base) == (False, "")
    third = second.fallen_back("it crashed")
    assert (third.assignment.sha256, third.assignment.fallbacks) == (last.sha256, ())
    assert from_plain(json.loads(json.dumps(to_plain(third)))) == third
    back = third.rolling_back("wrong answers")
    assert back.message == "not first: too slow here; not second: it crashed; wrong answers"
    assert third.assigned(first).refusals == ()
