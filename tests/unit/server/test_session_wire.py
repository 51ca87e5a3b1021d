"""What sessions send: an assignment for thousands is put on the wire once."""

from __future__ import annotations

from dataclasses import replace

from edge_compress.delivery.assignments import assignment_for
from edge_compress.delivery.sessions import Acknowledged
from edge_compress.domain.rollout import RolloutSpec
from edge_compress.server.session_wire import ServerMessages
from tests.unit.delivery.makers import artifact, profile

WANTED = assignment_for("vision-1", RolloutSpec("vision", "vision"), artifact("first"), profile().spec)


def test_an_assignment_is_made_into_a_message_once():
    messages = ServerMessages()
    first = messages.message(WANTED)
    assert first.assignment.id == WANTED.id
    assert first.assignment.spec.sha256 == WANTED.artifact.sha256
    assert messages.message(WANTED) is first


def test_every_assignment_has_its_own_message_however_many_came_before():
    messages = ServerMessages(most=2)
    for number in range(100):  # most of them are gone when the next is made, and may have had its place in memory
        assert messages.message(replace(WANTED, id=f"vision-{number}")).assignment.id == f"vision-{number}"
    assert len(messages._made) == 2


def test_acknowledgements_tell_the_sequence():
    assert ServerMessages().message(Acknowledged(7)).ack.sequence == 7
