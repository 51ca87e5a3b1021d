"""The hand codec against the generated one, and what a hostile chunk can be."""

import asyncio
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_compress import encoding
from edge_compress.api.v1 import artifacts_pb2
from edge_compress.encoding import Form
from edge_compress.errors import InvalidInput
from edge_compress.server.chunks import LARGEST_CHUNK, Chunk, PackedChunks, serialize, unpack
from tests.unit.packing import pack


@given(offset=st.integers(0, 2**63 - 1), data=st.binary(max_size=70_000), form=st.sampled_from(Form))
def test_hand_codec_is_wire_compatible_with_the_generated_one(offset, data, form):
    read = artifacts_pb2.Chunk.FromString(serialize(Chunk(offset, data, form)))
    assert read == artifacts_pb2.Chunk(offset=offset, data=data, encoding=form.value)
    assert artifacts_pb2.Encoding.Name(form.value) == f"ENCODING_{form.name}"


@given(data=st.binary(max_size=5000))
def test_what_was_packed_unpacks(data):
    packed, is_frame = pack(data)
    code = artifacts_pb2.ENCODING_ZSTD if is_frame else artifacts_pb2.ENCODING_IDENTITY
    assert unpack(artifacts_pb2.Chunk(data=packed, encoding=code)) == data


def test_a_bomb_is_refused_without_being_unpacked_whole():
    bomb, _ = pack(bytes(200 * LARGEST_CHUNK))
    assert len(bomb) < LARGEST_CHUNK
    with pytest.raises(InvalidInput, match=r"chunk\.data"):
        unpack(artifacts_pb2.Chunk(data=bomb, encoding=artifacts_pb2.ENCODING_ZSTD))


@pytest.mark.parametrize(
    ("chunk", "field"),
    [
        (artifacts_pb2.Chunk(data=bytes(LARGEST_CHUNK + 1)), "chunk.data"),
        (artifacts_pb2.Chunk(data=b"no frame", encoding=artifacts_pb2.ENCODING_ZSTD), "chunk.data"),
        (artifacts_pb2.Chunk(data=b"x", encoding=77), "chunk.encoding"),
    ],
)
def test_hostile_chunks_are_refused_naming_the_field(chunk, field):
    with pytest.raises(InvalidInput, match=field) as caught:
        unpack(chunk)
    assert caught.value.violations[0].field == field


async def test_packed_chunks_are_kept_within_the_limit():
    kept = PackedChunks(limit_bytes=5000)
    for number in range(50):
        data = bytes([number]) * 100_000 + os.urandom(500)
        chunk = await kept.chunk("ab", number, lambda data=data: whole(data))
        assert chunk.form is Form.ZSTD
        assert encoding.unpack(chunk.data) == data
    assert kept._bytes <= 5000
    assert 0 < len(kept._kept) < 50
    for number in range(1000):
        await kept.chunk("cd", number, lambda: whole(os.urandom(64)))
    assert len(kept._kept) < 50, "remembering what does not shrink is bounded too"


async def test_a_chunk_that_does_not_shrink_goes_as_it_is():
    noise = os.urandom(4096)
    assert await PackedChunks().chunk("ab", 0, lambda: whole(noise)) is None


class Packer:
    """Packs when it is let; counts how often it was asked."""

    def __init__(self):
        self.asked, self.let = 0, threading.Event()

    def __call__(self):
        self.asked += 1
        self.let.wait(10)
        return b"packed", Form.ZSTD


async def test_a_chunk_is_packed_once_for_all_who_ask_at_the_same_time():
    kept, make = PackedChunks(), Packer()
    asking = [asyncio.create_task(kept.chunk("ab", 0, make)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()  # whoever asked first may go away: the others get it all the same
    make.let.set()
    chunks = await asyncio.gather(*asking[1:])
    assert {chunk.data for chunk in chunks} == {b"packed"}
    assert make.asked == 1
    assert (await kept.chunk("ab", 0, make)).data == b"packed"
    assert make.asked == 1
    assert kept._under_way == {}


async def test_what_could_not_be_packed_is_tried_again():
    def cut_off():
        raise EOFError

    kept = PackedChunks()
    for _ in range(2):
        with pytest.raises(EOFError):
            await kept.chunk("ab", 0, cut_off)
    assert (await kept.chunk("ab", 0, lambda: (b"packed", Form.ZSTD))).data == b"packed"


def whole(data):
    return encoding.packed(encoding.Source.of(data), 0, len(data))
