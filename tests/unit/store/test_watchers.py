"""Listeners that come, go and fail."""

from __future__ import annotations

import logging

import pytest

from edge_compress.store.interface import Change, Event, Record
from edge_compress.store.watchers import Watchers


def event(revision: int) -> Event:
    return Event(Change.ADDED, Record("Model", f"m{revision}", "uid", {}, {}, {}, 1, revision, 0.0, 0.0))


def test_everybody_hears_in_order_until_they_stop() -> None:
    watchers, first, second = Watchers(), [], []
    stop = watchers.add(first.append)
    watchers.add(second.append)
    watchers.publish([event(1), event(2)])
    stop()
    watchers.publish([event(3)])
    assert first == [event(1), event(2)]
    assert second == [event(1), event(2), event(3)]


def test_one_listener_twice_is_two_and_each_stops_its_own() -> None:
    watchers, heard = Watchers(), []
    stop = watchers.add(heard.append)
    watchers.add(heard.append)
    stop()
    stop()
    watchers.publish([event(1)])
    assert heard == [event(1)]


def test_a_failure_is_logged_with_the_revision(caplog: pytest.LogCaptureFixture) -> None:
    watchers, heard = Watchers(), []

    def broken(event: Event) -> None:
        raise ValueError("broken")

    watchers.add(broken)
    watchers.add(heard.append)
    with caplog.at_level(logging.ERROR):
        watchers.publish([event(7)])
    assert heard == [event(7)]
    assert "revision 7" in caplog.text
    assert "ValueError: broken" in caplog.text


def test_a_listener_may_stop_itself_while_it_listens() -> None:
    watchers, heard = Watchers(), []

    def once(event: Event) -> None:
        heard.append(event)
        stop()

    stop = watchers.add(once)
    watchers.publish([event(1)])
    watchers.publish([event(2)])
    assert heard == [event(1)]
