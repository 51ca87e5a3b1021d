"""Rows of usage: what is refused before it reaches the database, and how rows are read page by page."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.errors import InvalidInput
from edge_compress.store import usage
from edge_compress.store.connections import connect
from edge_compress.store.interface import UsageKey, UsageTotals
from edge_compress.store.migrations import migrate


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(connect(tmp_path / "x.db")) as connection:
        migrate(connection, tmp_path / "x.db")
        yield connection


def key(number: int) -> UsageKey:
    return UsageKey(f"d{number}", "boot", "cam", "vision", "0123", "control")


@pytest.mark.parametrize(
    "totals",
    [
        UsageTotals({"ok": -1, "error": 2}),
        UsageTotals({"ok": 2**63}),
        UsageTotals({"ok": 2**62, "error": 2**62}),
        UsageTotals({"ok": 1}, (0.1,), (2, -1)),
        UsageTotals({"ok": 1}, energy={"rapl/package": float("inf")}),
        UsageTotals({"ok": 1}, duration_sum=float("nan")),
    ],
)
def test_absurd_totals_name_the_device(totals: UsageTotals) -> None:
    with pytest.raises(InvalidInput, match="usage of d1"):
        usage.usage_rows([(key(1), totals)])


def test_a_row_of_an_older_writer_gets_the_defaults(connection: sqlite3.Connection) -> None:
    usage.put_rows(connection, usage.usage_rows([(key(1), UsageTotals({"ok": 1}))]))
    connection.execute('UPDATE usage SET totals = \'{"inferences":{"ok":1}}\'')
    assert usage.usage_page(connection, 0, 10)[0] == [(key(1), UsageTotals({"ok": 1}))]


def test_pages_go_on_where_the_last_one_ended(connection: sqlite3.Connection) -> None:
    rows = [(key(number), UsageTotals({"ok": number})) for number in range(5)]
    usage.put_rows(connection, usage.usage_rows(rows))
    first, last = usage.usage_page(connection, 0, 2)
    usage.fold_rows(connection, [], [key(0), key(2)])
    second, last = usage.usage_page(connection, last, 2)
    third, last = usage.usage_page(connection, last, 2)
    assert first + second == [rows[number] for number in (0, 1, 3, 4)]
    assert (third, usage.usage_page(connection, last, 2)) == ([], ([], last))


def test_a_key_that_is_folded_and_dropped_stays(connection: sqlite3.Connection) -> None:
    usage.put_rows(connection, usage.usage_rows([(key(1), UsageTotals({"ok": 9}))]))
    usage.fold_rows(connection, usage.usage_rows([(key(1), UsageTotals({"ok": 1}))]), [key(1)])
    assert usage.usage_page(connection, 0, 10)[0] == [(key(1), UsageTotals({"ok": 1}))]
