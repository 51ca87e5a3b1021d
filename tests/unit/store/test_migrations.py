"""How databases of other versions, and of others, are met."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.errors import StartupError
from edge_compress.store.connections import connect
from edge_compress.store.migrations import MIGRATIONS, migrate

FIRST = ("CREATE TABLE word (text TEXT)", "INSERT INTO word VALUES ('kept')")
SECOND = ("ALTER TABLE word ADD COLUMN length INTEGER", "UPDATE word SET length = length(text)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(connect(path)) as connection:
        yield connection


def version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def test_steps_are_taken_once_and_data_is_carried_along(connection: sqlite3.Connection, path: Path) -> None:
    assert migrate(connection, path, [FIRST]) == 0
    assert migrate(connection, path, [FIRST]) == 1
    assert migrate(connection, path, [FIRST, SECOND]) == 1
    assert version(connection) == 2
    assert [tuple(row) for row in connection.execute("SELECT text, length FROM word")] == [("kept", 4)]


def test_a_step_that_fails_leaves_the_version_before_it(connection: sqlite3.Connection, path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, path, [FIRST, (*SECOND, "NONSENSE")])
    assert version(connection) == 1
    assert [column["name"] for column in connection.execute("PRAGMA table_info(word)")] == ["text"]
    migrate(connection, path, [FIRST, SECOND])
    assert version(connection) == 2


def test_a_newer_schema_is_refused(connection: sqlite3.Connection, path: Path) -> None:
    migrate(connection, path, [*MIGRATIONS, ("CREATE TABLE future (x)",)])
    with pytest.raises(StartupError, match="newer edge-compress") as caught:
        migrate(connection, path)
    assert str(path) in str(caught.value)
    assert version(connection) == len(MIGRATIONS) + 1


@pytest.mark.parametrize("theirs", ["CREATE TABLE bookmarks (url)", "PRAGMA user_version=1", "PRAGMA application_id=99"])
def test_the_database_of_another_program_is_refused(connection: sqlite3.Connection, path: Path, theirs: str) -> None:
    connection.execute(theirs)
    with pytest.raises(StartupError, match="another program"):
        migrate(connection, path)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'records'").fetchone()[0] == 0
