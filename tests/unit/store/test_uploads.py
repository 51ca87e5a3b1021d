"""Files that grow until they have the digest they are named by."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_compress.errors import Corrupt, InvalidInput, NotFound
from edge_compress.store.uploads import Uploads, write_all

DATA = b"0123456789" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


def test_a_file_grows_at_its_end_only(uploads: Uploads) -> None:
    assert uploads.offset(DIGEST) == 0
    assert uploads.append(DIGEST, 0, DATA[:10]) == 10
    assert uploads.append(DIGEST, 10, DATA[10:]) == len(DATA)
    with pytest.raises(InvalidInput, match=f"{len(DATA)}, the bytes kept so far"):
        uploads.append(DIGEST, 10, b"x")
    assert uploads.finished(DIGEST).read_bytes() == DATA


SMALL_FILES = """
import resource, signal, sys
from pathlib import Path
from edge_compress.errors import StorageFull
from edge_compress.store.uploads import Uploads

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
digest, uploads, data = sys.argv[2], Uploads(Path(sys.argv[1])), b"0123456789" * 1000
uploads.append(digest, 0, data[:4_000])
try:
    uploads.append(digest, 4_000, data[4_000:])
except StorageFull:
    assert uploads.offset(digest) == 4_000, uploads.offset(digest)
    assert uploads.append(digest, 4_000, data[4_000:5_000]) == 5_000
    sys.exit(42)
"""


def test_a_piece_that_fits_in_part_is_cut_off_again(tmp_path: Path) -> None:
    """The kernel cuts the write short as a full disk does, in a process of its own: the limit would hit pytest's output too."""
    done = subprocess.run([sys.executable, "-c", SMALL_FILES, str(tmp_path), DIGEST], check=False, capture_output=True)
    assert done.returncode == 42, done.stderr.decode()


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
