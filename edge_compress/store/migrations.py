"""The tables, and how an older database becomes a current one: step by step, each step and its number in one transaction.

A step that was ever released is never edited; a change is a new step at the end. ``user_version`` counts the steps taken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from edge_compress.errors import StartupError

APPLICATION_ID = 0x65634D70
"""``ecMp``: tells our database from any other SQLite file."""

_RECORD_COLUMNS = """
    kind TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,
    labels TEXT NOT NULL, spec TEXT NOT NULL, status TEXT NOT NULL,
    generation INTEGER NOT NULL, {revision}, created_at REAL NOT NULL, updated_at REAL NOT NULL
"""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"CREATE TABLE records ({_RECORD_COLUMNS.format(revision='revision INTEGER NOT NULL')}, UNIQUE (kind, name))",
        f"CREATE TABLE events (change TEXT NOT NULL, {_RECORD_COLUMNS.format(revision='revision INTEGER PRIMARY KEY')})",
        "CREATE TABLE steps (key TEXT PRIMARY KEY, result TEXT NOT NULL, created_at REAL NOT NULL)",
        """CREATE TABLE usage (
            id INTEGER PRIMARY KEY,
            device TEXT NOT NULL, boot_id TEXT NOT NULL, profile TEXT NOT NULL,
            model TEXT NOT NULL, version TEXT NOT NULL, cohort TEXT NOT NULL,
            inferences INTEGER NOT NULL, totals TEXT NOT NULL,
            UNIQUE (device, boot_id, profile, model, version, cohort))""",
    ),
    ("CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL)",),
)


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Sequence[str]] = MIGRATIONS) -> int:
    """Bring the database up to ``len(steps)``; returns the version it had.

    Raises StartupError when the file is another program's or comes from a newer edge-compress.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    _check_ours(connection, path, found)
    if found > len(steps):
        raise StartupError(
            f"{path}: written by a newer edge-compress (schema {found}, this one knows {len(steps)}); "
            "upgrade edge-compress or restore an older copy"
        )
    for version in range(found, len(steps)):
        _take_step(connection, steps[version], version + 1)
    return found


def _check_ours(connection: sqlite3.Connection, path: Path, version: int) -> None:
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StartupError(f"{path}: the database of another program; choose another state folder")


def _take_step(connection: sqlite3.Connection, statements: Sequence[str], version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={version}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
