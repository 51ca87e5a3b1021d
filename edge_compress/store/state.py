"""The server's state folder: who may open it, and what lies where in it.

lock       held for as long as a server uses the folder; its text is that server's process id
state.db   the database, with -wal and -shm beside it while it is open
blobs/     see ``blobs``
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from edge_compress.errors import StartupError
from edge_compress.store.blobs import FolderBlobs
from edge_compress.store.faults import disk_faults
from edge_compress.store.sqlite import KEEP_EVENTS, SqliteStore


def open_state(folder: Path, *, keep_events: int = KEEP_EVENTS) -> SqliteStore:
    """Open the state in ``folder``, creating it (for this user only) where it is missing. ``close`` lets go of the folder.

    Raises StartupError when another process holds it, when it cannot be created or written, or when its database is not ours or
    newer than we are; Corrupt when the database is damaged; StorageFull.
    """
    folder = folder.absolute()  # child processes read blobs from folders of their own
    held = contextlib.ExitStack()
    try:
        with disk_faults(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held.callback(os.close, _lock(folder))
            blobs = FolderBlobs(folder / "blobs")
        return SqliteStore(folder / "state.db", blobs, keep_events=keep_events, on_close=held.close)
    except OSError as error:
        held.close()
        raise StartupError(f"state folder {folder}: {error.strerror}; choose another with --state") from error
    except BaseException:
        held.close()
        raise


def _lock(folder: Path) -> int:
    """Take the folder's lock for this process; returns the open file that holds it. The kernel lets go when we die."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise StartupError(
            f"state folder {folder} is in use by process {holder}; stop that server or choose another folder with --state"
        ) from None
    except BaseException:
        os.close(handle)
        raise
    return handle
