"""How we talk to SQLite: one tuned connection that writes, and a pool of readers that each see one consistent moment.

Durability. The database runs in WAL mode with ``synchronous=FULL``: every commit is fsynced before its caller hears of it.
``NORMAL`` would already survive a ``kill -9`` of the server (the page cache is the kernel's), but a power cut could then take
back writes that a client was told were kept, and agents act on those. Group commit (``writer``) pays for it: on 2 cores
and ext4 ``tests/bench/store.py`` gave 2,200 applies/s to a lone writer (4,600 with NORMAL), 5,200 to sixteen (7,200) and 5,800 to
sixty-four (9,100), where one fsync serves all that wait. Usage comes hundreds of rows a call and hardly notices.

Only the writing connection ever commits or checkpoints, which also keeps clear of SQLite's races between checkpointers.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_compress.errors import Unavailable
from edge_compress.store.faults import sqlite_fault

_BUSY_SECONDS = 5.0
_PRAGMAS = (
    "journal_mode=WAL",
    "journal_size_limit=16777216",  # bytes; a burst must not leave a WAL of its largest size behind for ever
    "trusted_schema=OFF",  # a database file from elsewhere runs no functions of its own
)


def connect(path: Path, *, synchronous: str = "FULL") -> sqlite3.Connection:
    """The connection that writes. Whoever uses it begins and ends the transactions. ``synchronous`` is FULL, but in benchmarks.

    Raises sqlite3.Error.
    """
    connection = _open(path)
    try:
        for pragma in (*_PRAGMAS, f"synchronous={synchronous}"):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class Readers:
    """Connections that only read. There are as many as threads ever read at once; a thread that ends leaves none behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the database as it is at its first statement, however long it looks.

        Raises Unavailable when the store is closed, and what ``sqlite_fault`` makes of SQLite's errors.
        """
        connection = self._take()
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            raise sqlite_fault(error, self._path) from error
        finally:
            self._give(connection)

    def close(self) -> None:
        """Close the idle ones now and the busy ones when they are done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise Unavailable("the store is closed")
            if self._idle:
                return self._idle.pop()
        try:
            connection = _open(self._path)
            connection.execute("PRAGMA query_only=ON")
        except sqlite3.Error as error:
            raise sqlite_fault(error, self._path) from error
        return connection

    def _give(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection
