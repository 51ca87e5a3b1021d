"""Unfinished uploads: files that grow at their end until their bytes have the digest they are named by.

A file's length is the whole state, so a restart picks an upload up where it is. Locking, and turning a finished upload into a
blob, is left to ``blobs``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edge_compress.errors import Corrupt, InvalidInput, NotFound
from edge_compress.store.faults import disk_faults


class Uploads:
    """The files of ``folder``, which must exist, each named by the digest that is promised. Not safe from two threads at once
    for one digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def offset(self, sha256: str) -> int:
        """Bytes kept so far; 0 when there are none."""
        try:
            return self._file(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, sha256: str, offset: int, data: bytes) -> int:
        """Add at the end; returns the new offset. Raises InvalidInput when ``offset`` is not the end, and StorageFull, in which
        case what fitted is cut off again."""
        path = self._file(sha256)
        with disk_faults(path):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                end = os.fstat(handle).st_size
                if offset != end:
                    raise InvalidInput.at("offset", offset, f"{end}, the bytes kept so far", "ask where to go on")
                _append(handle, offset, data)
            finally:
                os.close(handle)
        return offset + len(data)

    def all(self) -> Iterator[tuple[str, float]]:
        """Digest and time of the last addition of each, in order."""
        for path in sorted(self._folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # finished or dropped meanwhile
                yield path.name, path.stat().st_mtime

    def sync(self, sha256: str) -> None:
        """Make what was appended survive a power cut. Raises NotFound."""
        with disk_faults(self._folder):
            try:
                sync_path(self._file(sha256))
            except FileNotFoundError:
                raise NotFound("upload", sha256) from None
            sync_path(self._folder)

    def finished(self, sha256: str) -> Path:
        """The file with all its bytes on the disk and the digest it promised; whoever asked moves it away.

        Raises NotFound, and Corrupt when the digest differs: the upload is dropped then.
        """
        path = self._file(sha256)
        try:
            found = file_digest(path)
        except FileNotFoundError:
            raise NotFound("upload", sha256) from None
        if found != sha256:
            size = path.stat().st_size
            path.unlink()
            raise Corrupt(f"the {size} uploaded bytes have digest {found}, not {sha256}; upload them again from the start")
        with disk_faults(path):
            sync_path(path)
        return path

    def drop(self, sha256: str) -> None:
        """Forget it; no error when there is none."""
        self._file(sha256).unlink(missing_ok=True)

    def _file(self, sha256: str) -> Path:
        return self._folder / sha256


def file_digest(path: Path) -> str:
    """Sha256 of a file's bytes, as 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_path(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write every byte at the handle's position. Raises OSError; some bytes may be written then."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _append(handle: int, offset: int, data: bytes) -> None:
    os.lseek(handle, offset, os.SEEK_SET)
    try:
        write_all(handle, data)
    except OSError:
        os.ftruncate(handle, offset)
        raise
