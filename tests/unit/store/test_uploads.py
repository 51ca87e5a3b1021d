"""Files that grow until they have the digest they are named by."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.errors import Corrupt, InvalidInput, NotFound, StorageFull
from edge_compress.store.uploads import Uploads, write_all

DATA = b"0123456789" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file may grow past this many bytes: the kernel cuts a write short there, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    yield 5_000
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_file_grows_at_its_end_only(uploads: Uploads) -> None:
    assert uploads.offset(DIGEST) == 0
    assert uploads.append(DIGEST, 0, DATA[:10]) == 10
    assert uploads.append(DIGEST, 10, DATA[10:]) == len(DATA)
    with pytest.raises(InvalidInput, match=f"{len(DATA)}, the bytes kept so far"):
        uploads.append(DIGEST, 10, b"x")
    assert uploads.finished(DIGEST).read_bytes() == DATA


def test_a_piece_that_fits_in_part_is_cut_off_again(uploads: Uploads, small_files: int) -> None:
    uploads.append(DIGEST, 0, DATA[:4_000])
    with pytest.raises(StorageFull):
        uploads.append(DIGEST, 4_000, DATA[4_000:])
    assert uploads.offset(DIGEST) == 4_000
    assert uploads.append(DIGEST, 4_000, DATA[4_000:5_000]) == small_files


def test_wrong_bytes_are_dropped(uploads: Uploads, tmp_path: Path) -> None:
    uploads.append(DIGEST, 0, b"other")
    with pytest.raises(Corrupt, match="the 5 uploaded bytes"):
        uploads.finished(DIGEST)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there(uploads: Uploads) -> None:
    for act in (uploads.sync, uploads.finished):
        with pytest.raises(NotFound):
            act(DIGEST)
    uploads.drop(DIGEST)


def test_every_byte_is_written_however_slowly_they_are_taken() -> None:
    data, taken = os.urandom(300_000), bytearray()  # more than a pipe holds
    reading, writing = os.pipe()

    def drain() -> None:
        while piece := os.read(reading, 4_096):
            taken.extend(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    write_all(writing, data)
    os.close(writing)
    reader.join(10)
    os.close(reading)
    assert bytes(taken) == data
