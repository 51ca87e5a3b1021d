"""Rows of resources: what a lookup costs, and what the log keeps."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.errors import Conflict, InvalidSpec
from edge_compress.store import records
from edge_compress.store.connections import connect
from edge_compress.store.migrations import migrate


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(connect(tmp_path / "x.db")) as connection:
        migrate(connection, tmp_path / "x.db")
        yield connection


def apply(connection: sqlite3.Connection, name: str, spec: str = "{}", keep_events: int = 100) -> int:
    wanted = records.Wanted("Model", name, "{}", spec, "{}")
    return records.apply_record(connection, wanted, records.Stamp(1.0, "uid", keep_events)).value[0].revision


def test_lookups_and_pages_use_an_index(connection: sqlite3.Connection) -> None:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    apply(connection, "a")
    records.get_record(connection, "Model", "a")
    records.list_records(connection, "Model", 10, "", {"x": "1"})
    records.events_since(connection, ["Model"], 0, 10)
    connection.set_trace_callback(None)
    for statement in statements:
        plan = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [step for step in plan if step.startswith("SCAN") and "json_each" not in step and "label" not in step], (
            statement
        )
        assert not [step for step in plan if "TEMP B-TREE" in step], statement


def test_the_log_keeps_the_newest_only(connection: sqlite3.Connection) -> None:
    for number in range(10):
        apply(connection, "a", spec=f'{{"n":{number}}}', keep_events=3)
    assert [row["revision"] for row in connection.execute("SELECT revision FROM events")] == [8, 9, 10]
    assert len(records.events_since(connection, ["Model"], 7, 10)) == 3
    with pytest.raises(Conflict, match="those since 7 to 10 are"):
        records.events_since(connection, ["Model"], 6, 10)


def test_revisions_never_start_over(connection: sqlite3.Connection) -> None:
    apply(connection, "a", keep_events=1)
    records.delete_record(connection, "Model", "a", records.Stamp(1.0, "uid", 1))
    assert apply(connection, "a", keep_events=1) == 3
    assert records.revision(connection) == 3


def test_a_token_goes_on_behind_the_last_name_even_when_that_is_gone(connection: sqlite3.Connection) -> None:
    for name in "abcd":
        apply(connection, name)
    page = records.list_records(connection, "Model", 2, "", {})
    records.delete_record(connection, "Model", "b", records.Stamp(1.0, "uid", 100))
    rest = records.list_records(connection, "Model", 2, page.next_token, {})
    assert [record.name for record in rest.records] == ["c", "d"]
    with pytest.raises(InvalidSpec, match="page_token"):
        records.list_records(connection, "Recipe", 2, page.next_token, {})
