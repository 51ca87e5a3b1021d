from __future__ import annotations

from pathlib import Path

import pytest
from backports import zstd

from edge_compress.agent.transfer import Partial, owed, unpack
from edge_compress.api.v1 import artifacts_pb2
from edge_compress.errors import Corrupt, StorageFull

SHA = "a" * 64


def test_a_partial_grows_and_is_taken_up_again(tmp_path: Path) -> None:
    with Partial(tmp_path / SHA, SHA, 6) as partial:
        partial.append(0, b"abc")
    with Partial(tmp_path / SHA, SHA, 6) as partial:
        assert partial.held == 3
        partial.append(3, b"def")
    assert (tmp_path / SHA).read_bytes() == b"abcdef"


@pytest.mark.parametrize(("offset", "data"), [(0, b"abc"), (4, b"a"), (3, b"defg")])
def test_bytes_that_do_not_follow_on_are_refused(tmp_path: Path, offset: int, data: bytes) -> None:
    with Partial(tmp_path / SHA, SHA, 6) as partial:
        partial.append(0, b"abc")
        with pytest.raises(Corrupt, match="3 of 6"):
            partial.append(offset, data)
        assert partial.held == 3


def test_more_than_there_can_be_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / SHA).write_bytes(b"abcdefg")
    with pytest.raises(Corrupt, match="7 bytes arrived, expected 6"):
        Partial(tmp_path / SHA, SHA, 6)
    assert not (tmp_path / SHA).exists()


def test_a_full_disk_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / SHA).symlink_to("/dev/full")
    with Partial(tmp_path / SHA, SHA, 6) as partial, pytest.raises(StorageFull, match="needs 6 bytes"):
        partial.append(0, b"abc")


def test_chunks_are_unpacked_by_their_encoding() -> None:
    data = b"model" * 1000
    assert unpack(artifacts_pb2.Chunk(data=data)) == data
    assert unpack(artifacts_pb2.Chunk(data=zstd.compress(data), encoding=artifacts_pb2.ENCODING_ZSTD)) == data


@pytest.mark.parametrize(
    "chunk",
    [
        artifacts_pb2.Chunk(data=b"not zstd", encoding=artifacts_pb2.ENCODING_ZSTD),
        artifacts_pb2.Chunk(data=zstd.compress(bytes(2**20 + 1)), encoding=artifacts_pb2.ENCODING_ZSTD),
        artifacts_pb2.Chunk(data=zstd.compress(b"model" * 1000)[:-5], encoding=artifacts_pb2.ENCODING_ZSTD),
        artifacts_pb2.Chunk(data=bytes(2**20 + 1)),
    ],
    ids=["junk", "bomb", "torn", "large"],
)
def test_chunks_that_are_not_what_they_say_are_refused(chunk: artifacts_pb2.Chunk) -> None:
    with pytest.raises(Corrupt):
        unpack(chunk)


def test_a_link_that_breaks_owes_what_it_carried_too_fast() -> None:
    assert owed(1000, 100.0, 4.0) == 6.0
    assert owed(1000, 100.0, 11.0) == 0.0
    assert owed(1000, 0.0, 0.0) == 0.0
