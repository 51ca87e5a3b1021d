"""What devices report, as rows: running totals by boot, of which the largest wins whatever the order they arrive in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from typing import Any

from edge_compress.errors import InvalidInput
from edge_compress.store.canonical import from_text, to_text
from edge_compress.store.interface import UsageKey, UsageTotals

_KEY = ", ".join(item.name for item in fields(UsageKey))
_UPSERT = f"""
    INSERT INTO usage ({_KEY}, inferences, joules, totals) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT ({_KEY}) DO UPDATE
    SET inferences = excluded.inferences, joules = excluded.joules, totals = excluded.totals
    WHERE (excluded.inferences, excluded.joules, excluded.totals) > (usage.inferences, usage.joules, usage.totals)
"""
_PAGE = f"SELECT id, {_KEY}, totals FROM usage WHERE id > ? ORDER BY id LIMIT ?"
_LARGEST = 2**63 - 1

Row = tuple[Any, ...]


def usage_rows(totals: Iterable[tuple[UsageKey, UsageTotals]]) -> list[Row]:
    """Rows for ``put_rows``. Raises InvalidInput for counts below 0 or over 63 bits, and for what is not a finite number."""
    return [_row(key, value) for key, value in totals]


def put_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Keep, for each key, the row with the most inferences. Equal ones are decided by energy and then by their text, so that
    every order of arrival ends the same."""
    connection.executemany(_UPSERT, rows)


def usage_page(connection: sqlite3.Connection, after: int, size: int) -> tuple[list[tuple[UsageKey, UsageTotals]], int]:
    """At most ``size`` rows behind row ``after`` (0: from the start), and the last one's number to go on from."""
    rows = connection.execute(_PAGE, (after, size)).fetchall()
    return [(UsageKey(*row[1:-1]), _totals(row["totals"])) for row in rows], rows[-1]["id"] if rows else after


def _row(key: UsageKey, totals: UsageTotals) -> Row:
    inferences = sum(totals.inferences.values())
    counts = (*totals.inferences.values(), *totals.bucket_counts, inferences)
    if any(not 0 <= count <= _LARGEST for count in counts):
        raise InvalidInput.at(f"usage of {key.device}", counts, "counts from 0 to 2^63 - 1")
    text = to_text([totals.inferences, totals.bucket_bounds, totals.bucket_counts, totals.duration_sum, totals.energy], "usage")
    return (*astuple(key), inferences, sum(totals.energy.values()), text)


def _totals(text: str) -> UsageTotals:
    inferences, bounds, counts, duration_sum, energy = from_text(text)
    return UsageTotals(inferences, tuple(bounds), tuple(counts), duration_sum, energy)
