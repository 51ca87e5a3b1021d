"""A live session: what waits to be sent stays bounded, and the first reason it ends with stays."""

from __future__ import annotations

import asyncio

import pytest

from edge_compress.delivery.assignments import assignment_for
from edge_compress.delivery.sessions import Acknowledged, Session, Welcome
from edge_compress.domain.rollout import RolloutSpec
from edge_compress.domain.session import Assignment
from edge_compress.errors import Conflict, Unavailable
from tests.unit.delivery.makers import artifact, hello, profile


def session() -> Session:
    return Session(hello(), Welcome(10.0, 5.0, None, 0.0), 0.0)


def assignment(text: str) -> Assignment:
    return assignment_for("vision-1", RolloutSpec("vision", "vision"), artifact(text), profile().spec)


async def everything(of: Session) -> list[Assignment | Acknowledged]:
    async with asyncio.timeout(5):
        return [message async for message in of.outgoing()]


async def test_only_the_newest_of_each_kind_is_sent() -> None:
    made = session()
    for sequence in (1, 2, 3):
        made.acknowledge(sequence)
    made.offer(assignment("one"))
    made.offer(assignment("two"))
    sending = made.outgoing()
    assert [await anext(sending), await anext(sending)] == [Acknowledged(3), assignment("two")]
    made.end()
    assert [message async for message in sending] == []


async def test_what_was_stored_is_acknowledged_even_at_the_end() -> None:
    made = session()
    made.acknowledge(4)
    made.offer(assignment("one"))
    made.end()
    assert await everything(made) == [Acknowledged(4)]


async def test_the_first_reason_stays() -> None:
    made = session()
    made.end(Conflict("a newer session began"))
    made.end(Unavailable("later"))
    with pytest.raises(Conflict, match="newer session"):
        await everything(made)
