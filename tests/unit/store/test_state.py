"""The state folder: made for one user, held by one server, given up by a dead one."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.errors import Corrupt, StartupError
from edge_compress.store.migrations import MIGRATIONS
from edge_compress.store.state import open_state

HOLDER = """
import pathlib, sys
from edge_compress.store.state import open_state
store = open_state(pathlib.Path(sys.argv[1]))
store.apply("Model", "a", labels={}, spec={})
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def test_the_folder_is_made_for_this_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    open_state(folder).close()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {item.name for item in folder.iterdir()} == {"lock", "state.db", "blobs"}


def test_a_second_server_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with holder(tmp_path) as child, pytest.raises(StartupError) as caught:
        open_state(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert f"process {child.pid};" in caught.value.message


def test_a_killed_server_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        with contextlib.closing(open_state(tmp_path)) as store:
            assert store.get("Model", "a").generation == 1
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_closing_lets_go_and_may_be_repeated(tmp_path: Path) -> None:
    first = open_state(tmp_path)
    with pytest.raises(StartupError, match=f"process {os.getpid()};"):
        open_state(tmp_path)
    first.close()
    first.close()
    open_state(tmp_path).close()


def test_a_file_in_the_way_is_a_startup_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StartupError, match="choose another with --state"):
        open_state(tmp_path / "state")


def test_a_folder_where_the_database_should_be_is_a_startup_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StartupError, match="unable to open"):
        open_state(tmp_path)
    (tmp_path / "state.db").rmdir()
    open_state(tmp_path).close()


def spoil(folder: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "state.db", isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_newer_schema_is_a_startup_error_and_lets_go_of_the_folder(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    spoil(tmp_path, "PRAGMA user_version=99")
    for _ in range(2):  # the second time would name a holder if the first had kept the lock
        with pytest.raises(StartupError, match="schema 99"):
            open_state(tmp_path)
    spoil(tmp_path, f"PRAGMA user_version={len(MIGRATIONS)}")
    open_state(tmp_path).close()


def test_a_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    (tmp_path / "state.db").write_bytes(b"scribbled over " * 1000)
    with pytest.raises(Corrupt, match="restore it from a copy"):
        open_state(tmp_path)
