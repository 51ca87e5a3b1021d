"""Watches: what exists, then every change once and in order; and their end when a reader is too slow."""

import asyncio
import threading

import pytest

from edge_compress.server.feed import Feed
from edge_compress.server.refusals import StaleWatch
from edge_compress.store.interface import Change
from edge_compress.store.state import open_state


def put(store, name, value=0, kind="Recipe"):
    return store.apply(kind, name, labels={}, spec={"value": value})[0]


async def take(stream, count, seconds=10.0):
    async with asyncio.timeout(seconds):
        return [await anext(stream) for _ in range(count)]


@pytest.fixture
async def feed(store):
    made = Feed(store)
    made.start()
    yield made
    made.close()


async def test_existing_ones_come_first_as_added_then_changes(store, feed):
    put(store, "a")
    put(store, "b")
    put(store, "other", kind="Model")
    stream = feed.watch("Recipe")
    first = await take(stream, 2)
    assert [(event.change, event.record.name) for event in first] == [(Change.ADDED, "a"), (Change.ADDED, "b")]
    put(store, "a", 1)
    put(store, "c")
    store.delete("Recipe", "b")
    after = await take(stream, 3)
    assert [(event.change, event.record.name) for event in after] == [
        (Change.MODIFIED, "a"),
        (Change.ADDED, "c"),
        (Change.DELETED, "b"),
    ]


async def test_resumes_after_a_revision_without_gaps_or_repeats(store, feed):
    since = put(store, "a").revision
    for value in range(1, 700):
        put(store, "a", value)
    stream = feed.watch("Recipe", since=since)
    events = await take(stream, 699)
    put(store, "a", 700)
    events += await take(stream, 1)
    assert [event.record.spec["value"] for event in events] == list(range(1, 701))


async def test_changes_while_the_list_is_read_come_exactly_once(store, feed):
    for number in range(600):
        put(store, f"n{number:03}")

    def change():
        for number in range(0, 600, 7):
            put(store, f"n{number:03}", 1)
        for number in range(600, 650):
            put(store, f"n{number:03}")

    stream = feed.watch("Recipe")
    events = await take(stream, 1)
    writer = threading.Thread(target=change)
    writer.start()
    newest = {}
    async with asyncio.timeout(20):
        for event in events:
            newest[event.record.name] = event.record
        while len(newest) < 650 or any(newest[f"n{number:03}"].spec["value"] != 1 for number in range(0, 600, 7)):
            event = await anext(stream)
            before = newest.get(event.record.name)
            assert before is None or before.revision < event.record.revision, "sent twice or out of order"
            newest[event.record.name] = event.record
    writer.join()


async def test_one_name_only(store, feed):
    put(store, "a")
    put(store, "b")
    stream = feed.watch("Recipe", name="b")
    assert [event.record.name for event in await take(stream, 1)] == ["b"]
    put(store, "a", 1)
    put(store, "b", 2)
    assert (await take(stream, 1))[0].record.spec == {"value": 2}


async def test_a_slow_reader_is_told_to_start_over_and_costs_no_memory(store):
    feed = Feed(store, limit=10)
    feed.start()
    put(store, "a")
    stream = feed.watch("Recipe")
    await take(stream, 1)
    for value in range(1, 30):
        put(store, "a", value)
    await asyncio.sleep(0)
    with pytest.raises(StaleWatch, match="list again"):
        await take(stream, 30)
    assert not feed._boxes
    feed.close()


async def test_revisions_that_were_dropped_or_never_were_are_refused(tmp_path):
    store = open_state(tmp_path / "small", keep_events=5)
    feed = Feed(store)
    feed.start()
    for value in range(30):
        put(store, "a", value)
    for since in (1, -3, 10_000):
        with pytest.raises(StaleWatch):
            await take(feed.watch("Recipe", since=since), 1)
    feed.close()
    store.close()
