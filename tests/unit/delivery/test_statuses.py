"""Statuses of many devices at once: few transactions, and nobody suffers from a neighbour."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from edge_compress.delivery.devices import DeviceBook
from edge_compress.delivery.statuses import StatusWriter
from edge_compress.domain.fleet import DeviceSpec, DeviceStatus
from edge_compress.domain.schema import encode
from edge_compress.errors import EdgeCompressError, InvalidSpec, NotFound
from edge_compress.store.sqlite import SqliteStore

DEVICES = 50


@pytest.fixture
def names(store: SqliteStore) -> list[str]:
    names = [f"cam-{number}" for number in range(DEVICES)]
    for name in names:
        store.apply("Device", name, labels={}, spec=encode(DeviceSpec("cam")))
    return names


@pytest.fixture
def batches(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Who was written together, transaction by transaction."""
    seen: list[set[str]] = []
    write = store.set_statuses

    def noted(kind: str, statuses: Any) -> frozenset[str]:
        seen.append(set(statuses))
        return write(kind, statuses)

    monkeypatch.setattr(store, "set_statuses", noted)
    return seen


def stored(store: SqliteStore, name: str) -> Any:
    return store.get("Device", name).status


async def test_those_that_come_together_are_written_together(
    store: SqliteStore, names: list[str], batches: list[set[str]]
) -> None:
    writer = StatusWriter(store)
    await asyncio.gather(*(writer.write(name, DeviceStatus(boot_id=name)) for name in names))
    assert {name: stored(store, name)["boot_id"] for name in names} == {name: name for name in names}
    assert len(batches) <= 2


async def test_a_write_that_comes_while_another_is_under_way_is_not_forgotten(store: SqliteStore, names: list[str]) -> None:
    writer = StatusWriter(store)
    first = asyncio.create_task(writer.write(names[0], DeviceStatus(boot_id="one")))
    await asyncio.sleep(0)
    await writer.write(names[1], DeviceStatus(boot_id="two"))
    assert first.done()
    assert [stored(store, name)["boot_id"] for name in names[:2]] == ["one", "two"]


@pytest.mark.parametrize(
    ("broken", "error"), [("gone", NotFound), ("cam-0", InvalidSpec)], ids=["not there", "cannot be written"]
)
async def test_the_trouble_of_one_is_not_that_of_the_others(
    store: SqliteStore, names: list[str], broken: str, error: type[EdgeCompressError]
) -> None:
    writer, good = StatusWriter(store), DeviceStatus(boot_id="good")
    bad = replace(good, inferences=float("nan")) if broken in names else good  # type: ignore[arg-type]  # what no one should send
    writes = {name: writer.write(name, good) for name in names if name != broken}
    outcomes = await asyncio.gather(*writes.values(), writer.write(broken, bad), return_exceptions=True)
    assert isinstance(outcomes.pop(), error)
    assert set(outcomes) == {None}
    assert {stored(store, name)["boot_id"] for name in writes} == {"good"}


async def test_whoever_gave_up_waiting_does_not_disturb(store: SqliteStore, names: list[str]) -> None:
    writer = StatusWriter(store)
    waiting = [asyncio.create_task(writer.write(name, DeviceStatus(boot_id="x"))) for name in names]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting[1:])
    assert stored(store, names[-1])["boot_id"] == "x"


async def test_many_devices_change_together_each_in_its_turn(store: SqliteStore) -> None:
    """One of them is being changed at that moment, one is forgotten: the others change all the same."""
    book = DeviceBook(store)
    for name in ("a", "b", "c"):
        await book.join(name, DeviceSpec("cam"), lambda status: status)
    store.delete("Device", "c")
    first = asyncio.create_task(book.change("b", lambda status: replace(status, message="first")))
    await asyncio.sleep(0)
    changes = {name: lambda status: replace(status, offered="x.1", message=status.message + "!") for name in ("a", "b", "c", "d")}
    await book.change_many(changes)
    await first
    said = {name: (device.status.offered, device.status.message) for name in "abc" if (device := book.get(name))}
    assert said == {"a": ("x.1", "!"), "b": ("x.1", "first!"), "c": ("", "")}
    again = DeviceBook(store)
    again.load()
    remembered = {device.name: device.status for device in book.all() if device.name != "c"}
    assert {device.name: device.status for device in again.all()} == remembered
