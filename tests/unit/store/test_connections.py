"""Readers: one moment for as long as they look, no more connections than threads, and no use after close."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.errors import StartupError, Unavailable
from edge_compress.store.connections import Readers, connect


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(connect(tmp_path / "x.db")) as connection:
        connection.execute("CREATE TABLE word (text)")
        yield connection


@pytest.fixture
def readers(tmp_path: Path, writing: sqlite3.Connection) -> Iterator[Readers]:
    readers = Readers(tmp_path / "x.db")
    yield readers
    readers.close()


def count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM word").fetchone()[0]


def test_every_commit_is_flushed_to_a_write_ahead_log(writing: sqlite3.Connection) -> None:
    assert writing.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert writing.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_snapshot_stays_at_its_moment(writing: sqlite3.Connection, readers: Readers) -> None:
    with readers.snapshot() as early:
        assert count(early) == 0
        writing.execute("INSERT INTO word VALUES ('x')")
        with readers.snapshot() as late:
            assert (count(early), count(late)) == (0, 1)


def test_connections_are_used_again(readers: Readers) -> None:
    with readers.snapshot() as first, readers.snapshot() as second:
        assert first is not second
        used = {id(first), id(second)}
    for _ in range(5):
        with readers.snapshot() as again:
            assert id(again) in used


def test_a_failure_inside_gives_the_connection_back_clean(readers: Readers) -> None:
    with pytest.raises(TypeError), readers.snapshot() as first:
        raise TypeError(count(first))
    with readers.snapshot() as again:
        assert again is first
        assert count(again) == 0


def test_readers_cannot_write(readers: Readers) -> None:
    with pytest.raises(StartupError, match="readonly"), readers.snapshot() as connection:
        connection.execute("INSERT INTO word VALUES ('x')")


def test_after_close_nothing_is_read_and_the_busy_ones_finish(readers: Readers) -> None:
    with readers.snapshot() as busy:
        readers.close()
        assert count(busy) == 0
        with pytest.raises(Unavailable, match="closed"), readers.snapshot():
            pass
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        count(busy)
