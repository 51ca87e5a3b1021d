"""What the disk and SQLite can do to us, as errors of the product's one tree.

Only faults with something to do about them are renamed: a full disk, damaged files, a lock that is held. Anything else is let
through as it is, because hiding a bug behind a kind word helps nobody.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from edge_compress.errors import Corrupt, EdgeCompressError, StartupError, StorageFull, TooLarge, Unavailable

_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


def sqlite_fault(error: sqlite3.Error, path: Path) -> EdgeCompressError | sqlite3.Error:
    """The product's error for what SQLite said of the database at ``path``; ``error`` itself where we have no better one."""
    code: int = getattr(error, "sqlite_errorcode", 0)  # absent on errors that Python's own wrapper raises
    primary = code & 0xFF
    if code in _FULL_CODES or primary == sqlite3.SQLITE_FULL:
        return _full(path)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(f"{path}: {error}; restore it from a copy, or move it away to start empty")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"{path}: another program holds the database locked; try again once it has let go")
    if primary == sqlite3.SQLITE_IOERR:
        return Unavailable(f"{path}: {error} ({error.sqlite_errorname}); look at the disk and try again")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return StartupError(f"{path}: {error}; make it a file that this user can write, or choose another state folder")
    if primary == sqlite3.SQLITE_TOOBIG:
        return TooLarge(f"{path}: one value is over the database's limit of 1 GB")
    return error


@contextlib.contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn "no room" while working on ``path`` into StorageFull; other operating system errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_ERRNOS:
            raise _full(path) from error
        raise


def _full(path: Path) -> StorageFull:
    return StorageFull(f"{path}: no room left on the disk; nothing of this was kept, make room and try again")
