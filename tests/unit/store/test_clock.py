"""The server's time goes on evenly, whatever happens to the wall clock."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edge_compress.store.blobs import FolderBlobs
from edge_compress.store.clock import SteadyClock
from edge_compress.store.sqlite import SqliteStore


def test_a_wall_clock_that_is_set_changes_nothing() -> None:
    wall, passed = [1000.0], [7.0]
    clock = SteadyClock(wall=lambda: wall[0], passing=lambda: passed[0])
    assert clock() == 1000.0
    for jump in (86400.0, -3 * 86400.0):
        wall[0] += jump
        assert clock() == 1000.0
    passed[0] += 2.5
    assert clock() == 1002.5


def test_it_begins_after_what_is_stored_even_where_the_wall_clock_was_set_back() -> None:
    assert SteadyClock(5000.0, wall=lambda: 1000.0, passing=lambda: 7.0)() == 5000.0
    assert SteadyClock(500.0, wall=lambda: 1000.0, passing=lambda: 7.0)() == 1000.0


def test_a_stores_clock_goes_on_from_its_newest_record(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    with contextlib.closing(SqliteStore(tmp_path / "x.db", blobs, clock=lambda: 4e9)) as store:
        store.apply("Model", "a", labels={}, spec={})
    with contextlib.closing(SqliteStore(tmp_path / "x.db", blobs)) as store:
        later, _ = store.apply("Model", "b", labels={}, spec={})
    assert later.created_at >= 4e9
