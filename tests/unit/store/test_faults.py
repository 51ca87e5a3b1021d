"""Real faults of SQLite and the operating system, and what they are called."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from pathlib import Path

import pytest

from edge_compress.errors import Corrupt, StartupError, StorageFull, TooLarge, Unavailable
from edge_compress.store.faults import disk_faults, sqlite_fault


def fault_of(path: Path, *statements: str) -> Exception:
    *before, last = statements
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        for statement in before:
            connection.execute(statement)
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(last)
        return sqlite_fault(caught.value, path)


def test_a_full_database(tmp_path: Path) -> None:
    fault = fault_of(tmp_path / "x.db", "PRAGMA max_page_count=2", "CREATE TABLE a (x)", "INSERT INTO a VALUES (zeroblob(99999))")
    assert isinstance(fault, StorageFull)
    assert str(tmp_path) in fault.message


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database, only some text " * 100)
    assert isinstance(fault_of(tmp_path / "x.db", "SELECT * FROM sqlite_schema"), Corrupt)


def test_a_database_that_somebody_holds(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert isinstance(fault_of(tmp_path / "x.db", "CREATE TABLE a (x)"), Unavailable)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("CREATE TABLE a (x)")
    fault = fault_of(tmp_path / "x.db", "PRAGMA query_only=ON", "INSERT INTO a VALUES (1)")
    assert isinstance(fault, StartupError)


def test_a_value_over_the_limit(tmp_path: Path) -> None:
    assert isinstance(fault_of(tmp_path / "x.db", "SELECT zeroblob(2000000000)"), TooLarge)


def test_a_mistake_of_ours_keeps_its_name(tmp_path: Path) -> None:
    fault = fault_of(tmp_path / "x.db", "SELECT nonsense")
    assert type(fault) is sqlite3.OperationalError


def test_a_write_to_a_full_device() -> None:
    with pytest.raises(StorageFull, match="/dev/full"), disk_faults(Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x")


def test_other_errors_of_the_system_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, disk_faults(tmp_path):
        (tmp_path / "missing").read_bytes()
    assert caught.value.errno == errno.ENOENT
