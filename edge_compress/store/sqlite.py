"""The store on SQLite: resources with watches, finished steps and usage in one file, and the blobs beside it.

Joins the parts: ``records`` and ``usage`` say what happens to the rows, ``writer`` makes it durable, ``connections`` reads,
``watchers`` tells. Who may open the folder, and that only one server does, is ``state``'s business.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_compress.errors import InvalidSpec
from edge_compress.store import records, usage
from edge_compress.store.canonical import from_text, to_text
from edge_compress.store.clock import SteadyClock
from edge_compress.store.connections import Readers, connect
from edge_compress.store.faults import sqlite_fault
from edge_compress.store.interface import ApplyOutcome, BlobStore, Event, Page, Record, UsageKey, UsageTotals
from edge_compress.store.migrations import migrate
from edge_compress.store.watchers import Watchers
from edge_compress.store.writer import Writer, Written

KEEP_EVENTS = 10_000
"""How many of the newest changes a watch can resume from."""
_USAGE_PAGE = 1_000
_PUT_NOTE = "INSERT INTO notes (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_DROP_NOTE = "DELETE FROM notes WHERE key = ?"
_PUT_STEP = "INSERT INTO steps (key, result, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


class SqliteStore:
    """Implements ``interface.Store``. ``on_close`` runs last in ``close``, once every file is let go of."""

    blobs: BlobStore

    def __init__(
        self,
        path: Path,
        blobs: BlobStore,
        *,
        keep_events: int = KEEP_EVENTS,
        synchronous: str = "FULL",
        clock: Callable[[], float] | None = None,
        new_uid: Callable[[], str] = lambda: uuid.uuid4().hex,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Open or create the database at ``path``. ``clock``: instead of one that goes on from the newest stored time. Raises
        StartupError (newer or foreign file), Corrupt, StorageFull."""
        self.blobs = blobs
        self._keep_events, self._new_uid, self._on_close = keep_events, new_uid, on_close
        self._watchers = Watchers()
        self._writer = Writer(_opened(path, synchronous), path, self._watchers.publish)
        self._readers = Readers(path)
        self.clock = clock or SteadyClock(self._newest_time())
        """what records are stamped with; whatever is compared with their times, or stored in them, must come from it"""

    def apply(
        self,
        kind: str,
        name: str,
        *,
        labels: Mapping[str, str],
        spec: Mapping[str, Any],
        status: Mapping[str, Any] | None = None,
        expected_generation: int | None = None,
    ) -> tuple[Record, ApplyOutcome]:
        """See ``ResourceStore.apply``. ``expected_generation`` 0 expects that there is none yet."""
        _check_key(kind, name)
        wanted = records.Wanted(
            kind, name, to_text(labels, "labels"), to_text(spec, "spec"), to_text(status or {}, "status"), expected_generation
        )
        return self._writer.run(lambda connection: records.apply_record(connection, wanted, self._stamp()))

    def set_status(self, kind: str, name: str, status: Mapping[str, Any], *, expected_revision: int | None = None) -> Record:
        """See ``ResourceStore.set_status``."""
        text = to_text(status, "status")
        return self._writer.run(
            lambda connection: records.set_status(connection, kind, name, text, expected_revision, self._stamp())
        )

    def set_statuses(self, kind: str, statuses: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
        """See ``ResourceStore.set_statuses``."""
        texts = {name: to_text(status, "status") for name, status in statuses.items()}
        return self._writer.run(lambda connection: records.set_statuses(connection, kind, texts, self._stamp()))

    def get(self, kind: str, name: str) -> Record:
        """See ``ResourceStore.get``."""
        with self._readers.snapshot() as connection:
            return records.get_record(connection, kind, name)

    def list(self, kind: str, *, page_size: int = 0, page_token: str = "", labels: Mapping[str, str] | None = None) -> Page:
        """See ``ResourceStore.list``."""
        with self._readers.snapshot() as connection:
            return records.list_records(connection, kind, page_size, page_token, labels or {})

    def delete(self, kind: str, name: str) -> Record:
        """See ``ResourceStore.delete``."""
        return self._writer.run(lambda connection: records.delete_record(connection, kind, name, self._stamp()))

    def events(self, kinds: Iterable[str], since: int, limit: int = 1000) -> Sequence[Event]:
        """See ``ResourceStore.events``."""
        with self._readers.snapshot() as connection:
            return records.events_since(connection, kinds, since, limit)

    def revision(self) -> int:
        """See ``ResourceStore.revision``."""
        with self._readers.snapshot() as connection:
            return records.revision(connection)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """See ``ResourceStore.subscribe``. Listeners have heard of a change before the method that made it returns."""
        return self._watchers.add(listener)

    def step(self, key: str) -> Mapping[str, Any] | None:
        """See ``StepCache.step``."""
        with self._readers.snapshot() as connection:
            row = connection.execute("SELECT result FROM steps WHERE key = ?", (key,)).fetchone()
        return from_text(row["result"]) if row else None

    def put_step(self, key: str, result: Mapping[str, Any]) -> None:
        """See ``StepCache.put_step``."""
        values = (key, to_text(result, "result"), self.clock())

        def work(connection: sqlite3.Connection) -> Written[None]:
            connection.execute(_PUT_STEP, values)
            return Written(None)

        self._writer.run(work)

    def note(self, key: str) -> Mapping[str, Any] | None:
        """See ``NoteStore.note``."""
        with self._readers.snapshot() as connection:
            row = connection.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return from_text(row["value"]) if row else None

    def put_note(self, key: str, value: Mapping[str, Any] | None) -> None:
        """See ``NoteStore.put_note``."""
        text = None if value is None else to_text(value, "value")

        def work(connection: sqlite3.Connection) -> Written[None]:
            connection.execute(*((_DROP_NOTE, (key,)) if text is None else (_PUT_NOTE, (key, text))))
            return Written(None)

        self._writer.run(work)

    def put_usage(self, totals: Sequence[tuple[UsageKey, UsageTotals]]) -> None:
        """See ``UsageStore.put_usage``. Raises InvalidInput, keeping none of them, when one is not a sane count."""
        rows = usage.usage_rows(totals)

        def work(connection: sqlite3.Connection) -> Written[None]:
            usage.put_rows(connection, rows)
            return Written(None)

        self._writer.run(work)

    def fold_usage(self, kept: Sequence[tuple[UsageKey, UsageTotals]], dropped: Sequence[UsageKey]) -> None:
        """See ``UsageStore.fold_usage``. Raises InvalidInput as ``put_usage`` does."""
        rows = usage.usage_rows(kept)

        def work(connection: sqlite3.Connection) -> Written[None]:
            usage.fold_rows(connection, rows, dropped)
            return Written(None)

        self._writer.run(work)

    def usage(self) -> Iterator[tuple[UsageKey, UsageTotals]]:
        """See ``UsageStore.usage``. Reads page by page: a slow reader holds no snapshot open."""
        last = 0
        while True:
            with self._readers.snapshot() as connection:
                page, last = usage.usage_page(connection, last, _USAGE_PAGE)
            if not page:
                return
            yield from page

    def close(self) -> None:
        """See ``Store.close``. Whatever is asked of the store afterwards raises Unavailable."""
        self._readers.close()
        self._writer.close()
        self._on_close()

    def _stamp(self) -> records.Stamp:
        return records.Stamp(self.clock(), self._new_uid(), self._keep_events)

    def _newest_time(self) -> float:
        with self._readers.snapshot() as connection:
            return records.newest_time(connection)


def _opened(path: Path, synchronous: str) -> sqlite3.Connection:
    try:
        connection = connect(path, synchronous=synchronous)
        try:
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise sqlite_fault(error, path) from error
    return connection


def _check_key(kind: str, name: str) -> None:
    """Empty or unencodable names could be stored but never be paged past or printed."""
    for field, value in (("kind", kind), ("metadata.name", name)):
        if not value or not value.isprintable():
            raise InvalidSpec.at(field, value, "printable text")
