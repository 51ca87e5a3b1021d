"""What devices report, as rows: running totals by boot, of which the largest wins whatever the order they arrive in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from edge_compress.errors import InvalidInput
from edge_compress.store.canonical import from_text, to_text
from edge_compress.store.interface import UsageKey, UsageTotals

_KEY_FIELDS = tuple(item.name for item in fields(UsageKey))
_TOTALS_FIELDS = tuple(item.name for item in fields(UsageTotals))
_key_values = attrgetter(*_KEY_FIELDS)  # dataclasses.astuple copies deeply: a third of the time of a large batch
_totals_values = attrgetter(*_TOTALS_FIELDS)
_KEY = ", ".join(_KEY_FIELDS)
_REPLACE = f"""
    INSERT INTO usage ({_KEY}, inferences, totals) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT ({_KEY}) DO UPDATE SET inferences = excluded.inferences, totals = excluded.totals
"""
_RAISE = f"{_REPLACE} WHERE excluded.inferences >= usage.inferences"
_DROP = f"DELETE FROM usage WHERE ({_KEY}) = (?, ?, ?, ?, ?, ?)"
_PAGE = f"SELECT id, {_KEY}, totals FROM usage WHERE id > ? ORDER BY id LIMIT ?"
_LARGEST = 2**63 - 1

Row = tuple[Any, ...]


def usage_rows(totals: Iterable[tuple[UsageKey, UsageTotals]]) -> list[Row]:
    """Rows for ``put_rows`` and ``fold_rows``. Raises InvalidInput for counts outside 0 to 2^63 - 1, and NaN."""
    return [_row(key, value) for key, value in totals]


def put_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Keep, for each key, the row with the most inferences, and the later of equal ones: energy is drawn between them too."""
    connection.executemany(_RAISE, rows)


def fold_rows(connection: sqlite3.Connection, kept: Sequence[Row], dropped: Iterable[UsageKey]) -> None:
    """Remove ``dropped`` and write ``kept`` as they are; a key that is in both stays."""
    connection.executemany(_DROP, [_key_values(key) for key in dropped])
    connection.executemany(_REPLACE, kept)


def usage_page(connection: sqlite3.Connection, after: int, size: int) -> tuple[list[tuple[UsageKey, UsageTotals]], int]:
    """At most ``size`` rows behind row ``after`` (0: from the start), and the last one's number to go on from."""
    rows = connection.execute(_PAGE, (after, size)).fetchall()
    return [(UsageKey(*row[1:-1]), _totals(row["totals"])) for row in rows], rows[-1]["id"] if rows else after


def _row(key: UsageKey, totals: UsageTotals) -> Row:
    inferences = sum(totals.inferences.values())
    counts = (*totals.inferences.values(), *totals.bucket_counts, inferences)
    if any(not 0 <= count <= _LARGEST for count in counts):
        raise InvalidInput.at(f"usage of {key.device}", counts, "counts from 0 to 2^63 - 1")
    values = dict(zip(_TOTALS_FIELDS, _totals_values(totals), strict=True))
    return (*_key_values(key), inferences, to_text(values, f"usage of {key.device}"))


def _totals(text: str) -> UsageTotals:
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in from_text(text).items()}
    return UsageTotals(**plain)
