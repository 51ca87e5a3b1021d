"""What ``SqliteStore`` adds to the contract: clocks and names from outside, and a clean end."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest

from edge_compress.errors import Conflict, Unavailable
from edge_compress.store.blobs import FolderBlobs
from edge_compress.store.interface import Store, UsageKey, UsageTotals
from edge_compress.store.sqlite import SqliteStore


def test_times_and_names_come_from_whoever_opened_it(tmp_path: Path) -> None:
    clock = itertools.count(1000.0)
    store = SqliteStore(tmp_path / "x.db", FolderBlobs(tmp_path / "blobs"), clock=lambda: next(clock), new_uid=lambda: "one")
    with contextlib.closing(store):
        created, _ = store.apply("Model", "a", labels={}, spec={})
        changed = store.set_status("Model", "a", {"n": 1})
    assert (created.uid, created.created_at, created.updated_at) == ("one", 1000.0, 1000.0)
    assert (changed.created_at, changed.updated_at) == (1000.0, 1001.0)


def test_zero_expects_that_there_is_none_yet(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "x.db", FolderBlobs(tmp_path / "blobs"))) as store:
        store.apply("Model", "a", labels={}, spec={}, expected_generation=0)
        with pytest.raises(Conflict, match="generation 1, not 0"):
            store.apply("Model", "a", labels={}, spec={}, expected_generation=0)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    ends: list[str] = []
    store: Store = SqliteStore(tmp_path / "x.db", FolderBlobs(tmp_path / "blobs"), on_close=lambda: ends.append("closed"))
    store.close()
    for act in (
        lambda: store.get("Model", "a"),
        lambda: store.apply("Model", "a", labels={}, spec={}),
        lambda: store.put_usage([(UsageKey("d", "b", "p", "m", "v"), UsageTotals())]),
        lambda: list(store.usage()),
    ):
        with pytest.raises(Unavailable, match="closed"):
            act()
    assert ends == ["closed"]


def test_a_reader_that_stops_half_way_holds_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x.db", FolderBlobs(tmp_path / "blobs"))
    store.put_usage([(UsageKey(f"d{number}", "b", "p", "m", "v"), UsageTotals()) for number in range(1500)])
    rows = store.usage()
    next(rows)
    store.close()
    assert not (tmp_path / "x.db-wal").exists()  # the last connection to close removes it
