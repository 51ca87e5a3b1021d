"""The one thread that writes, and group commit: whatever waits goes into one transaction and shares its fsync.

Each write is a function of the connection, run inside a savepoint, so that one that fails takes nothing of its neighbours with
it. When the transaction as a whole cannot be kept (a full disk shows up at COMMIT), each write is tried again alone, so that a
small one still fits where a big one did not: a write must be a function of the database only, free to be run again.

Leaves to ``records`` and ``usage`` what is written, and to ``watchers`` who hears of it.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from edge_compress.errors import Unavailable
from edge_compress.store.faults import sqlite_fault
from edge_compress.store.interface import Event

T = TypeVar("T")

_LARGEST_BATCH = 256
"""Writes in one transaction: enough to share an fsync, few enough that the first of them does not wait long."""


@dataclass(frozen=True)
class Written(Generic[T]):
    """What a write gives back to its caller, and the changes that others are to hear of once it is durable."""

    value: T
    events: tuple[Event, ...] = ()


Work = Callable[[sqlite3.Connection], Written[T]]


@dataclass(frozen=True)
class _Write:
    work: Work[Any]
    answer: Future[Any] = field(default_factory=Future)


class Writer:
    """Owns the writing connection from construction to ``close``. ``publish`` is called with each transaction's events."""

    def __init__(self, connection: sqlite3.Connection, path: Path, publish: Callable[[Sequence[Event]], None]) -> None:
        self._connection, self._path, self._publish = connection, path, publish
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, work: Work[T]) -> T:
        """Do ``work`` in the next transaction; returns when that is durable and its events are published.

        Raises what ``work`` raised (nothing of it is kept then), StorageFull, or Unavailable once closed.
        """
        write = _Write(work)
        with self._gate:  # so that no write can slip in behind the one that ends the thread
            if self._closed:
                raise Unavailable("the store is closed")
            self._waiting.put(write)
        answer: T = write.answer.result()
        return answer

    def close(self) -> None:
        """Finish the writes that were begun, end the thread, close the connection."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        while True:
            batch, ended = self._next_batch()
            if batch:
                self._keep(batch)
            if ended:
                return

    def _next_batch(self) -> tuple[list[_Write], bool]:
        """Wait for one write, then take along what waits behind it. True when ``close`` was the last."""
        batch: list[_Write] = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == _LARGEST_BATCH:
                return batch, False
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _keep(self, batch: Sequence[_Write]) -> None:
        try:
            results = self._transaction(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(self._named(error))
                return
            for write in batch:
                self._keep([write])
            return
        self._publish([event for result in results if isinstance(result, Written) for event in result.events])
        for write, result in zip(batch, results, strict=True):
            if isinstance(result, Written):
                write.answer.set_result(result.value)
            else:
                write.answer.set_exception(self._named(result))

    def _transaction(self, batch: Sequence[_Write]) -> list[Written[Any] | Exception]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [self._attempt(write.work) for write in batch]
            self._connection.execute("COMMIT")
        except Exception:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return results

    def _attempt(self, work: Work[Any]) -> Written[Any] | Exception:
        self._connection.execute("SAVEPOINT one")
        try:
            result = work(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite gave up the whole transaction, neighbours and all
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return error
        self._connection.execute("RELEASE one")
        return result

    def _named(self, error: Exception) -> Exception:
        return sqlite_fault(error, self._path) if isinstance(error, sqlite3.Error) else error
