"""What every store must do with blobs and unfinished uploads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_compress.errors import Corrupt, InvalidInput, NotFound
from edge_compress.store.interface import Store


class TestBlobs:
    @pytest.mark.parametrize("data", [b"", b"x", b"0123456789" * 300_000])
    def test_bytes_come_back_under_their_digest(self, store: Store, data: bytes) -> None:
        digest = store.blobs.put_bytes(data)
        assert digest == digest_of(data)
        assert store.blobs.has(digest)
        assert store.blobs.size(digest) == len(data)
        assert store.blobs.path(digest).read_bytes() == data
        assert list(store.blobs.digests()) == [digest]

    def test_a_file_is_copied(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "model.onnx"
        source.write_bytes(b"weights" * 200_000)
        digest = store.blobs.put_file(source)
        source.write_bytes(b"changed")
        assert store.blobs.path(digest).read_bytes() == b"weights" * 200_000

    def test_the_same_bytes_twice_are_one_blob(self, store: Store) -> None:
        assert store.blobs.put_bytes(b"x") == store.blobs.put_bytes(b"x")
        assert len(list(store.blobs.digests())) == 1

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        missing = digest_of(b"missing")
        assert not store.blobs.has(missing)
        for act in (store.blobs.size, store.blobs.path, store.blobs.commit, store.blobs.sync_partial):
            with pytest.raises(NotFound):
                act(missing)
        store.blobs.discard(missing)

    @pytest.mark.parametrize("digest", ["", "../../../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
    def test_what_is_no_digest_is_refused(self, store: Store, digest: str) -> None:
        for act in (store.blobs.has, store.blobs.path, store.blobs.partial, store.blobs.commit, store.blobs.discard):
            with pytest.raises(InvalidInput, match="sha256"):
                act(digest)
        with pytest.raises(InvalidInput, match="sha256"):
            store.blobs.append(digest, 0, b"x")

    def test_a_blob_cannot_be_changed_by_accident(self, store: Store) -> None:
        path = store.blobs.path(store.blobs.put_bytes(b"x"))
        assert path.stat().st_mode & 0o222 == 0

    def test_changed_bytes_are_corrupt_and_can_be_put_again(self, store: Store) -> None:
        digest = store.blobs.put_bytes(b"good bytes")
        damage(store.blobs.path(digest))
        with pytest.raises(Corrupt, match=digest):
            store.blobs.path(digest)
        assert not store.blobs.has(digest)
        with pytest.raises(NotFound):
            store.blobs.path(digest)
        assert store.blobs.put_bytes(b"good bytes") == digest
        assert store.blobs.path(digest).read_bytes() == b"good bytes"

    def test_put_heals_a_blob_that_nobody_had_looked_at(self, store: Store) -> None:
        digest = store.blobs.put_bytes(b"good bytes")
        damage(store.blobs.path(digest))
        store.blobs.put_bytes(b"good bytes")
        assert store.blobs.path(digest).read_bytes() == b"good bytes"

    def test_a_flipped_byte_that_keeps_size_and_time_is_found_after_a_restart(
        self, open_store: Callable[..., Store], tmp_path: Path
    ) -> None:
        store = open_store(tmp_path)
        digest = store.blobs.put_bytes(b"good bytes")
        path = store.blobs.path(digest)
        store.close()
        before = path.stat()
        damage(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        store = open_store(tmp_path)
        with pytest.raises(Corrupt):
            store.blobs.path(digest)

    def test_discard_removes_blob_and_upload(self, store: Store) -> None:
        digest = store.blobs.put_bytes(b"x")
        store.blobs.append(digest, 0, b"x")
        store.blobs.discard(digest)
        assert (store.blobs.has(digest), store.blobs.partial(digest), list(store.blobs.digests())) == (False, 0, [])

    def test_many_threads_with_the_same_bytes(self, store: Store) -> None:
        data = os.urandom(300_000)
        with ThreadPoolExecutor(8) as pool:
            digests = set(pool.map(lambda _: store.blobs.put_bytes(data), range(24)))
        assert digests == {digest_of(data)}
        assert store.blobs.path(digest_of(data)).read_bytes() == data


class TestUploads:
    DATA = bytes(range(256)) * 1000

    def test_an_upload_in_pieces_becomes_a_blob(self, store: Store) -> None:
        digest, offset = digest_of(self.DATA), 0
        while offset < len(self.DATA):
            assert store.blobs.partial(digest) == offset
            offset = store.blobs.append(digest, offset, self.DATA[offset : offset + 10_000])
        store.blobs.sync_partial(digest)
        assert not store.blobs.has(digest)
        store.blobs.commit(digest)
        assert store.blobs.path(digest).read_bytes() == self.DATA
        assert store.blobs.partial(digest) == 0

    def test_an_empty_upload_becomes_the_empty_blob(self, store: Store) -> None:
        store.blobs.commit(digest_of(b""))
        assert store.blobs.size(digest_of(b"")) == 0

    def test_unfinished_uploads_are_told_with_their_last_addition(self, store: Store) -> None:
        begun = time.time()
        digest = hashlib.sha256(b"two pieces").hexdigest()
        store.blobs.append(digest, 0, b"two ")
        [(name, at)] = store.blobs.unfinished()
        assert name == digest
        assert begun - 1 <= at <= time.time() + 1
        store.blobs.append(digest, 4, b"pieces")
        store.blobs.commit(digest)
        assert list(store.blobs.unfinished()) == []

    def test_commit_twice_is_commit_once(self, store: Store) -> None:
        digest = digest_of(self.DATA)
        store.blobs.append(digest, 0, self.DATA)
        store.blobs.commit(digest)
        store.blobs.commit(digest)
        assert store.blobs.has(digest)

    @pytest.mark.parametrize("offset", [0, 9, 11, -1])
    def test_a_piece_that_does_not_follow_on_is_refused(self, store: Store, offset: int) -> None:
        digest = digest_of(self.DATA)
        store.blobs.append(digest, 0, self.DATA[:10])
        with pytest.raises(InvalidInput, match="offset"):
            store.blobs.append(digest, offset, b"xx")
        assert store.blobs.partial(digest) == 10

    def test_wrong_bytes_are_corrupt_and_dropped(self, store: Store) -> None:
        digest = digest_of(self.DATA)
        store.blobs.append(digest, 0, self.DATA[:-1] + b"?")
        with pytest.raises(Corrupt, match=digest):
            store.blobs.commit(digest)
        assert (store.blobs.has(digest), store.blobs.partial(digest)) == (False, 0)

    def test_an_upload_goes_on_after_a_restart(self, open_store: Callable[..., Store], tmp_path: Path) -> None:
        digest = digest_of(self.DATA)
        store = open_store(tmp_path)
        store.blobs.append(digest, 0, self.DATA[:1234])
        store.blobs.sync_partial(digest)
        store.close()
        store = open_store(tmp_path)
        assert store.blobs.partial(digest) == 1234
        assert not store.blobs.has(digest)
        store.blobs.append(digest, 1234, self.DATA[1234:])
        store.blobs.commit(digest)
        assert store.blobs.path(digest).read_bytes() == self.DATA

    def test_two_uploads_of_one_digest_never_make_a_wrong_blob(self, store: Store) -> None:
        digest = digest_of(self.DATA)

        def upload(_: int) -> None:
            while not store.blobs.has(digest):
                with contextlib.suppress(InvalidInput, Corrupt, NotFound):
                    offset = store.blobs.partial(digest)
                    if offset >= len(self.DATA):
                        store.blobs.commit(digest)
                    store.blobs.append(digest, offset, self.DATA[offset : offset + 7_000])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(upload, range(4)))
        assert store.blobs.path(digest).read_bytes() == self.DATA


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def damage(path: Path) -> None:
    """Flip one bit in the middle, whatever the file's permissions."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
