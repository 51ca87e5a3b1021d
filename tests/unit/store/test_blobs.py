"""The folder's own promises: what lies where, and how often bytes are looked at."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edge_compress.errors import Corrupt
from edge_compress.store import blobs as module
from edge_compress.store.blobs import FolderBlobs

DATA = b"weights"
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_a_blob_lies_under_its_digest(tmp_path: Path) -> None:
    FolderBlobs(tmp_path).put_bytes(DATA)
    path = tmp_path / DIGEST[:2] / DIGEST[2:]
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o444
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_crash_left_half_written_is_cleared_and_uploads_stay(tmp_path: Path) -> None:
    FolderBlobs(tmp_path).append(DIGEST, 0, b"wei")
    (tmp_path / "tmp" / "left").write_bytes(b"half")
    blobs = FolderBlobs(tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert blobs.partial(DIGEST) == 3


def test_bytes_are_hashed_once_while_the_file_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FolderBlobs(tmp_path).put_bytes(DATA)
    blobs, hashed = FolderBlobs(tmp_path), []
    digest = module.file_digest
    monkeypatch.setattr(module, "file_digest", lambda path: hashed.append(path) or digest(path))
    for _ in range(3):
        blobs.path(DIGEST)
    assert len(hashed) == 1
    os.utime(blobs.path(DIGEST))
    blobs.path(DIGEST)
    assert len(hashed) == 2


def test_a_change_that_hides_its_time_is_found_at_once(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    path = blobs.path(blobs.put_bytes(DATA))
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"Weights")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Corrupt):
        blobs.path(DIGEST)


def test_corrupt_bytes_are_set_aside_for_whoever_asks_why(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    path = blobs.path(blobs.put_bytes(DATA))
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    with pytest.raises(Corrupt, match="set aside"):
        blobs.path(DIGEST)
    assert (tmp_path / "corrupt" / DIGEST).read_bytes() == b"rotten"
    assert list(blobs.digests()) == []


def test_what_is_not_a_blob_is_not_listed(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    blobs.put_bytes(DATA)
    (tmp_path / DIGEST[:2] / "notes.txt").write_text("by hand")
    (tmp_path / "zz").mkdir()
    assert list(blobs.digests()) == [DIGEST]
