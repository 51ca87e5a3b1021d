"""Resources and their log of changes, as rows: what each operation does to the database, given a connection to do it on.

Every change of a record takes the next revision and leaves a copy of the record in ``events`` under it, so the log's newest row
is also the store's revision. Threads, transactions and durability are left to ``writer`` and ``connections``.
"""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_compress.errors import Conflict, InvalidSpec, NotFound
from edge_compress.store.canonical import from_text
from edge_compress.store.interface import ApplyOutcome, Change, Event, Page, Record
from edge_compress.store.writer import Written

_COLUMNS = "kind, name, uid, labels, spec, status, generation, revision, created_at, updated_at"
_INSERT = f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?)"
_UPDATE_SPEC = "UPDATE records SET labels = ?, spec = ?, generation = ?, revision = ?, updated_at = ? WHERE kind = ? AND name = ?"
_UPDATE_STATUS = "UPDATE records SET status = ?, revision = ?, updated_at = ? WHERE kind = ? AND name = ?"
_HAS_LABEL = " AND EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ? AND label.value = ?)"


@dataclass(frozen=True)
class Wanted:
    """What a caller wants stored; labels, spec and status as canonical text."""

    kind: str
    name: str
    labels: str
    spec: str
    status: str
    expected_generation: int | None = None


@dataclass(frozen=True)
class Stamp:
    """What a change needs from outside the database."""

    now: float
    """seconds since the epoch"""
    uid: str
    """for a record that is created"""
    keep_events: int
    """how many of the newest events stay"""


def apply_record(connection: sqlite3.Connection, wanted: Wanted, stamp: Stamp) -> Written[tuple[Record, ApplyOutcome]]:
    """Create or replace. Raises Conflict when ``expected_generation`` is stale; 0 expects that there is none yet."""
    stored = _find(connection, wanted.kind, wanted.name)
    generation = stored["generation"] if stored else 0
    if wanted.expected_generation not in (None, generation):
        raise Conflict(
            f"{wanted.kind} {wanted.name!r} is at generation {generation}, not {wanted.expected_generation}; "
            "read it again and retry"
        )
    if stored is None:
        return _create(connection, wanted, stamp)
    if (stored["labels"], stored["spec"]) == (wanted.labels, wanted.spec):
        return Written((_record(stored), ApplyOutcome.UNCHANGED))
    generation += stored["spec"] != wanted.spec
    values = (wanted.labels, wanted.spec, generation, revision(connection) + 1, stamp.now, wanted.kind, wanted.name)
    connection.execute(_UPDATE_SPEC, values)
    event = _log(connection, Change.MODIFIED, wanted.kind, wanted.name, stamp)
    return Written((event.record, ApplyOutcome.CONFIGURED), (event,))


def set_status(
    connection: sqlite3.Connection, kind: str, name: str, status: str, expected_revision: int | None, stamp: Stamp
) -> Written[Record]:
    """Replace the status (canonical text). Raises NotFound, and Conflict when ``expected_revision`` is stale."""
    stored = _must_find(connection, kind, name)
    if expected_revision not in (None, stored["revision"]):
        raise Conflict(f"{kind} {name!r} is at revision {stored['revision']}, not {expected_revision}; read it again and retry")
    if stored["status"] == status:
        return Written(_record(stored))
    connection.execute(_UPDATE_STATUS, (status, revision(connection) + 1, stamp.now, kind, name))
    event = _log(connection, Change.MODIFIED, kind, name, stamp)
    return Written(event.record, (event,))


def set_statuses(connection: sqlite3.Connection, kind: str, statuses: Mapping[str, str], stamp: Stamp) -> Written[frozenset[str]]:
    """Replace the status (canonical text) of each name; gives back the names that are not there."""
    gone: set[str] = set()
    events: list[Event] = []
    for name, status in statuses.items():
        try:
            events += set_status(connection, kind, name, status, None, stamp).events
        except NotFound:
            gone.add(name)
    return Written(frozenset(gone), tuple(events))


def delete_record(connection: sqlite3.Connection, kind: str, name: str, stamp: Stamp) -> Written[Record]:
    """Remove; gives back the record as it last was. Raises NotFound."""
    last = _record(_must_find(connection, kind, name))
    connection.execute("UPDATE records SET revision = ? WHERE kind = ? AND name = ?", (revision(connection) + 1, kind, name))
    event = _log(connection, Change.DELETED, kind, name, stamp)
    connection.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name))
    return Written(last, (event,))


def get_record(connection: sqlite3.Connection, kind: str, name: str) -> Record:
    """Raises NotFound."""
    return _record(_must_find(connection, kind, name))


def list_records(connection: sqlite3.Connection, kind: str, size: int, token: str, labels: Mapping[str, str]) -> Page:
    """A page of at most ``size`` records (0: all), those after the one that ``token`` names. Raises InvalidSpec for a bad token.

    Pages go by name, not by position, so that records which come and go meanwhile shift nothing.
    """
    if size < 0:
        raise InvalidSpec.at("page_size", size, "0 or more")
    after = _read_token(token, kind) if token else ""
    query = f"SELECT {_COLUMNS} FROM records WHERE kind = ? AND name > ?"
    query += _HAS_LABEL * len(labels) + " ORDER BY name LIMIT ?"
    bound = [part for label in labels.items() for part in label]
    rows = connection.execute(query, (kind, after, *bound, size + 1 if size else -1)).fetchall()
    records = tuple(_record(row) for row in (rows[:size] if size else rows))
    return Page(records, _make_token(kind, records[-1].name) if len(rows) > len(records) else "")


def events_since(connection: sqlite3.Connection, kinds: Iterable[str], since: int, limit: int) -> Sequence[Event]:
    """Events of ``kinds`` after ``since``. Raises Conflict when some of them are dropped already, or ``since`` is yet to come."""
    oldest = connection.execute("SELECT min(revision) FROM events").fetchone()[0]
    newest = revision(connection)
    if since > newest or (oldest is not None and since < oldest - 1):
        kept = f"{(oldest or 1) - 1} to {newest}"
        raise Conflict(f"changes since revision {since} are not kept (those since {kept} are); list again and watch from there")
    wanted = tuple(kinds)
    marks = ", ".join("?" * len(wanted))
    query = f"SELECT change, {_COLUMNS} FROM events WHERE revision > ? AND kind IN ({marks}) ORDER BY revision LIMIT ?"
    rows = connection.execute(query, (since, *wanted, limit)).fetchall()
    return tuple(Event(Change(row["change"]), _record(row)) for row in rows)


def revision(connection: sqlite3.Connection) -> int:
    """The newest revision; 0 for an empty store."""
    return int(connection.execute("SELECT coalesce(max(revision), 0) FROM events").fetchone()[0])


def newest_time(connection: sqlite3.Connection) -> float:
    """When the last change was made; 0 for an empty store."""
    return float(connection.execute("SELECT coalesce(max(updated_at), 0) FROM records").fetchone()[0])


def _create(connection: sqlite3.Connection, wanted: Wanted, stamp: Stamp) -> Written[tuple[Record, ApplyOutcome]]:
    texts = (wanted.kind, wanted.name, stamp.uid, wanted.labels, wanted.spec, wanted.status)
    connection.execute(_INSERT, (*texts, revision(connection) + 1, stamp.now, stamp.now))
    event = _log(connection, Change.ADDED, wanted.kind, wanted.name, stamp)
    return Written((event.record, ApplyOutcome.CREATED), (event,))


def _log(connection: sqlite3.Connection, change: Change, kind: str, name: str, stamp: Stamp) -> Event:
    """Copy the record as it now is into the log, and drop what is over the log's bound."""
    row = _must_find(connection, kind, name)
    marks = ", ".join("?" * (len(row) + 1))
    connection.execute(f"INSERT INTO events (change, {_COLUMNS}) VALUES ({marks})", (change.value, *row))
    connection.execute("DELETE FROM events WHERE revision <= ?", (row["revision"] - stamp.keep_events,))
    return Event(change, _record(row))


def _find(connection: sqlite3.Connection, kind: str, name: str) -> sqlite3.Row | None:
    query = f"SELECT {_COLUMNS} FROM records WHERE kind = ? AND name = ?"
    row: sqlite3.Row | None = connection.execute(query, (kind, name)).fetchone()
    return row


def _must_find(connection: sqlite3.Connection, kind: str, name: str) -> sqlite3.Row:
    row = _find(connection, kind, name)
    if row is None:
        raise NotFound(kind, name)
    return row


def _record(row: sqlite3.Row) -> Record:
    return Record(
        kind=row["kind"],
        name=row["name"],
        uid=row["uid"],
        labels=from_text(row["labels"]),
        spec=from_text(row["spec"]),
        status=from_text(row["status"]),
        generation=row["generation"],
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _make_token(kind: str, name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, name]).encode()).decode()


def _read_token(token: str, kind: str) -> str:
    try:
        made_for, name = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidSpec.at("page_token", token, "a token of the previous page") from error
    if made_for != kind or not isinstance(name, str) or not name.isprintable():
        raise InvalidSpec.at("page_token", token, f"a token of the previous page of {kind}")
    return name
