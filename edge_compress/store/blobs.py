"""Blobs in a folder: immutable files named by the sha256 of their bytes, and never half of one.

    ab/cdef…        the blob abcdef…, read-only
    partial/abcdef… an upload that is not finished
    corrupt/abcdef… a blob whose bytes had changed, set aside for whoever wants to know why
    tmp/            being written; emptied at every start

A blob appears by one rename, after its bytes are on the disk. What a file may be asked, and in which order uploads of one blob
take turns, is left to the callers; two at once get in each other's way but never make a wrong blob.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_compress.errors import Corrupt, InvalidInput, NotFound
from edge_compress.store.faults import disk_faults
from edge_compress.store.uploads import Uploads, file_digest, sync_path, write_all

_DIGEST = re.compile(r"[0-9a-f]{64}")
_EMPTY = hashlib.sha256().hexdigest()
_CHUNK = 1 << 20

_State = tuple[int, int, int, int]
"""size, mtime, ctime (both ns) and inode: while they stay, the bytes are taken to stay too, until the next start."""


class FolderBlobs:
    """Implements ``interface.BlobStore`` in the folder ``root``. One process at a time: ``state`` sees to that."""

    def __init__(self, root: Path) -> None:
        """Create what is missing and remove what a crash left in ``tmp``. Raises StorageFull, OSError."""
        self._root = root
        with disk_faults(root):
            for name in ("partial", "corrupt", "tmp"):
                (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in (root / "tmp").iterdir():
                left.unlink()
            sync_path(root)
        self._uploads = Uploads(root / "partial")
        self._verified: dict[str, _State] = {}
        self._locks = tuple(threading.Lock() for _ in range(16))

    def has(self, sha256: str) -> bool:
        """See ``BlobStore.has``. Raises InvalidInput, as every method here, when ``sha256`` is not a digest."""
        return self._file(sha256).is_file()

    def size(self, sha256: str) -> int:
        """See ``BlobStore.size``."""
        return self._state(sha256)[0]

    def path(self, sha256: str) -> Path:
        """See ``BlobStore.path``. Hashes the file when its size, times or inode are not those it was last verified with."""
        if self._verified.get(sha256) != self._state(sha256):
            with self._lock(sha256):
                self._verify(sha256)
        return self._file(sha256)

    def put_bytes(self, data: bytes) -> str:
        """See ``BlobStore.put_bytes``."""
        return self._put([data])

    def put_file(self, path: Path) -> str:
        """See ``BlobStore.put_file``. The digest is of the bytes that were copied, should the file change meanwhile.

        Raises OSError when ``path`` cannot be read.
        """
        with path.open("rb") as file:
            return self._put(iter(lambda: file.read(_CHUNK), b""))

    def partial(self, sha256: str) -> int:
        """See ``BlobStore.partial``."""
        return self._uploads.offset(_checked(sha256))

    def append(self, sha256: str, offset: int, data: bytes) -> int:
        """See ``BlobStore.append``."""
        with self._lock(sha256):
            return self._uploads.append(sha256, offset, data)

    def sync_partial(self, sha256: str) -> None:
        """See ``BlobStore.sync_partial``. Raises NotFound when there is no upload."""
        with self._lock(sha256):
            self._uploads.sync(sha256)

    def commit(self, sha256: str) -> None:
        """See ``BlobStore.commit``. Does nothing when the blob is here already, so that a retry is safe; raises NotFound when
        there is neither blob nor upload."""
        if _checked(sha256) == _EMPTY:  # no byte to append, so there may be no upload either
            self.put_bytes(b"")
        with self._lock(sha256):
            if self._sound(sha256):
                self._uploads.drop(sha256)
            else:
                self._publish(self._uploads.finished(sha256), sha256)

    def discard(self, sha256: str) -> None:
        """See ``BlobStore.discard``."""
        with self._lock(sha256):
            self._verified.pop(sha256, None)
            self._file(sha256).unlink(missing_ok=True)
            self._uploads.drop(sha256)

    def digests(self) -> Iterator[str]:
        """See ``BlobStore.digests``. In order."""
        for folder in sorted(self._root.glob("[0-9a-f][0-9a-f]")):
            for name in sorted(item.name for item in folder.iterdir()):
                if _DIGEST.fullmatch(folder.name + name):
                    yield folder.name + name

    def unfinished(self) -> Iterator[tuple[str, float]]:
        """See ``BlobStore.unfinished``."""
        return self._uploads.all()

    def _put(self, chunks: Iterable[bytes]) -> str:
        with self._written(chunks) as (file, sha256), self._lock(sha256):
            if not self._sound(sha256):
                sync_path(file)
                self._publish(file, sha256)
        return sha256

    @contextlib.contextmanager
    def _written(self, chunks: Iterable[bytes]) -> Iterator[tuple[Path, str]]:
        """A temporary file with ``chunks`` in it, and their digest; gone at the end unless it was moved away."""
        with disk_faults(self._root):
            handle, name = tempfile.mkstemp(dir=self._root / "tmp")
            file, digest = Path(name), hashlib.sha256()
            try:
                try:
                    for chunk in chunks:
                        digest.update(chunk)
                        write_all(handle, chunk)
                finally:
                    os.close(handle)
                yield file, digest.hexdigest()
            finally:
                file.unlink(missing_ok=True)

    def _publish(self, file: Path, sha256: str) -> None:
        """Make ``file``, whose bytes are verified and on the disk, the blob."""
        target = self._file(sha256)
        with disk_faults(target):
            file.chmod(0o444)
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700)
                sync_path(self._root)
            file.replace(target)
            sync_path(target.parent)
        self._verified[sha256] = self._state(sha256)

    def _sound(self, sha256: str) -> bool:
        """Whether the blob is here with the right bytes. A wrong one is set aside, to be written anew."""
        try:
            self._verify(sha256)
        except (NotFound, Corrupt):
            return False
        return True

    def _verify(self, sha256: str) -> None:
        """Raises NotFound and Corrupt. Called under the digest's lock, so that many readers hash a big file only once."""
        state, file = self._state(sha256), self._file(sha256)
        if self._verified.get(sha256) == state:
            return
        found = file_digest(file)
        if found != sha256:
            self._verified.pop(sha256, None)
            aside = file.replace(self._root / "corrupt" / sha256)
            raise Corrupt(f"blob {sha256}: its bytes now have digest {found}; set aside as {aside}, upload or compress it again")
        self._verified[sha256] = state

    def _state(self, sha256: str) -> _State:
        try:
            stat = self._file(sha256).stat()
        except FileNotFoundError:
            raise NotFound("blob", sha256) from None
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino

    def _file(self, sha256: str) -> Path:
        return self._root / _checked(sha256)[:2] / sha256[2:]

    def _lock(self, sha256: str) -> threading.Lock:
        return self._locks[int(_checked(sha256)[0], 16)]


def _checked(sha256: str) -> str:
    """Refuse what is not a digest: it becomes a file name."""
    if not _DIGEST.fullmatch(sha256):
        raise InvalidInput.at("sha256", sha256, "64 lower case hexadecimal digits")
    return sha256
