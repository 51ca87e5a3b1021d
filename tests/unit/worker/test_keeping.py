"""What steps keep for others: lent by what it depends on, merged, bounded, and gone without harm when blobs are swept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.store.interface import Store
from edge_compress.store.state import open_state
from edge_compress.worker.keeping import KEPT, Keeper


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of this test's own."""
    opened = open_state(tmp_path / "state")
    yield opened
    opened.close()


def leave(scratch: Path, **files: bytes) -> Path:
    """A scratch folder in which a step left these files to be kept."""
    (scratch / KEPT).mkdir(parents=True)
    for name, data in files.items():
        (scratch / KEPT / name).write_bytes(data)
    return scratch


def test_what_one_step_left_is_lent_to_the_next_on_the_same_shelf_only(store: Store, tmp_path: Path) -> None:
    keeper = Keeper(store)
    keeper.take("shelf", leave(tmp_path / "one", a=b"first"))
    keeper.take("shelf", leave(tmp_path / "two", b=b"second"))
    lent = Keeper(store).lend("shelf")
    assert {name: Path(path).read_bytes() for name, path in lent.items()} == {"a": b"first", "b": b"second"}
    assert keeper.lend("other") == {}


def test_a_swept_blob_is_no_longer_lent(store: Store, tmp_path: Path) -> None:
    keeper = Keeper(store)
    keeper.take("shelf", leave(tmp_path / "one", a=b"first", b=b"second"))
    store.blobs.discard(hashlib.sha256(b"first").hexdigest())
    assert set(keeper.lend("shelf")) == {"b"}
    keeper.take("shelf", leave(tmp_path / "again", a=b"first"))
    assert set(keeper.lend("shelf")) == {"a", "b"}, "computed anew, kept anew"


def test_links_folders_and_a_flood_of_files_are_not_kept(store: Store, tmp_path: Path) -> None:
    scratch = leave(tmp_path / "one", **{f"file{number:03}": b"x" for number in range(100)})
    (scratch / KEPT / "a-link").symlink_to("/etc/hostname")
    (scratch / KEPT / "a-folder").mkdir()
    keeper = Keeper(store)
    keeper.take("shelf", scratch)
    names = set(keeper.lend("shelf"))
    assert not names & {"a-link", "a-folder"}
    assert 0 < len(names) <= 64
    keeper.take("empty", tmp_path)
    assert keeper.lend("empty") == {}
