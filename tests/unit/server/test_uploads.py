"""Uploads: in order, resumable, one sender at a time, nothing half-written, and every kind of nonsense refused."""

import asyncio
import hashlib
import os

import pytest

from edge_compress.api.v1 import artifacts_pb2 as pb
from edge_compress.errors import Conflict, Corrupt, InvalidInput, TooLarge
from edge_compress.server.refusals import OutOfStep, Silent
from edge_compress.server.uploads import Uploads
from tests.unit.packing import pack

DATA = os.urandom(300_000)
SIZE = len(DATA)
SHA = hashlib.sha256(DATA).hexdigest()


def header(sha256=SHA, size=SIZE, offset=0):
    return pb.UploadBlobRequest(header=pb.UploadHeader(sha256=sha256, size_bytes=size, offset_bytes=offset))


def chunk(offset, data, code=pb.ENCODING_UNSPECIFIED):
    return pb.UploadBlobRequest(chunk=pb.Chunk(offset=offset, data=data, encoding=code))


def chunks(start=0, end=SIZE, size=65_536):
    return [chunk(at, DATA[at : min(at + size, end)]) for at in range(start, end, size)]


async def sent(*messages):
    for message in messages:
        yield message


@pytest.fixture
def uploads(store):
    return Uploads(store.blobs, limit_bytes=1_000_000, idle_seconds=5)


async def test_a_whole_upload_becomes_a_blob(uploads, store):
    held = await uploads.receive(sent(header(), *chunks()))
    assert (held.complete, held.offset) == (True, len(DATA))
    assert store.blobs.path(SHA).read_bytes() == DATA
    again = await uploads.receive(sent(header()))
    assert again.complete, "a repeat finds it there"


async def test_goes_on_from_where_it_broke_off(uploads, store):
    half = await uploads.receive(sent(header(), *chunks(end=131_072)))
    assert (half.complete, half.offset) == (False, 131_072)
    assert await uploads.held(SHA) == half
    with pytest.raises(OutOfStep, match="131072"):
        await uploads.receive(sent(header(), *chunks()))
    assert (await uploads.receive(sent(header(offset=131_072), *chunks(131_072)))).complete
    assert store.blobs.path(SHA).read_bytes() == DATA


async def test_what_arrived_before_a_cut_stays(uploads):
    async def cut():
        yield header()
        yield chunks()[0]
        raise ConnectionError("the line is dead")

    with pytest.raises(ConnectionError):
        await uploads.receive(cut())
    assert (await uploads.held(SHA)).offset == 65_536


async def test_packed_chunks_are_unpacked(uploads, store):
    data = b"abc" * 50_000
    sha256 = hashlib.sha256(data).hexdigest()
    packed, _ = pack(data)
    assert (await uploads.receive(sent(header(sha256, len(data)), chunk(0, packed, pb.ENCODING_ZSTD)))).complete
    assert store.blobs.path(sha256).read_bytes() == data


async def test_an_empty_file_can_be_sent(uploads, store):
    empty = hashlib.sha256().hexdigest()
    assert (await uploads.receive(sent(header(empty, 0)))).complete
    assert store.blobs.size(empty) == 0


async def test_wrong_bytes_are_refused_and_it_starts_over(uploads, store):
    wrong = bytes([DATA[0] ^ 1]) + DATA[1:]
    with pytest.raises(Corrupt):
        await uploads.receive(sent(header(), chunk(0, wrong)))
    assert not store.blobs.has(SHA)
    assert (await uploads.held(SHA)).offset == 0


async def test_only_one_sender_at_a_time(uploads):
    hold, first_in = asyncio.Event(), asyncio.Event()

    async def slow():
        yield header()
        first_in.set()
        await hold.wait()
        for message in chunks():
            yield message

    first = asyncio.create_task(uploads.receive(slow()))
    await first_in.wait()
    await asyncio.sleep(0)
    with pytest.raises(Conflict, match="somebody else"):
        await uploads.receive(sent(header(), *chunks()))
    hold.set()
    assert (await first).complete


async def test_a_cancelled_sender_leaves_the_place_free_and_whole_chunks_only(uploads, until):
    hold = asyncio.Event()

    async def stalls():
        yield header()
        yield chunks()[0]
        hold.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(uploads.receive(stalls()))
    await hold.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    offset = (await uploads.held(SHA)).offset
    assert offset in (0, 65_536)
    assert (await uploads.receive(sent(header(offset=offset), *chunks(offset)))).complete


async def test_a_silent_sender_is_dropped(store):
    uploads = Uploads(store.blobs, limit_bytes=1_000_000, idle_seconds=0.05)

    async def silent():
        yield header()
        await asyncio.Event().wait()

    with pytest.raises(Silent):
        await uploads.receive(silent())


@pytest.mark.parametrize(
    ("messages", "error", "said"),
    [
        ([], InvalidInput, "header"),
        ([chunk(0, b"x")], InvalidInput, "header as the first"),
        ([pb.UploadBlobRequest()], InvalidInput, "header as the first"),
        ([header("beef")], InvalidInput, "header.sha256"),
        ([header("../" * 20 + "etcd")], InvalidInput, "header.sha256"),
        ([header(size=-1)], InvalidInput, "zero or more"),
        ([header(offset=-1)], InvalidInput, "zero or more"),
        ([header(size=1_000_001)], TooLarge, "limit of 1000000"),
        ([header(), header()], InvalidInput, "a chunk after the header"),
        ([header(), chunk(1, b"x")], OutOfStep, "chunk.offset"),
        ([header(), chunk(-1, b"x")], OutOfStep, "chunk.offset"),
        ([header(size=10), chunk(0, b"x" * 11)], InvalidInput, "at most the 10 announced"),
        ([header(), chunk(0, b"x", pb.ENCODING_ZSTD)], InvalidInput, "zstd"),
    ],
)
async def test_nonsense_is_refused_and_nothing_is_kept(uploads, store, messages, error, said):
    with pytest.raises(error, match=said):
        await uploads.receive(sent(*messages))
    assert list(store.blobs.digests()) == []
    assert (await uploads.held(SHA)).offset == 0


async def test_an_announcement_below_what_is_held_starts_over(uploads):
    await uploads.receive(sent(header(), *chunks(end=131_072)))
    with pytest.raises(OutOfStep, match="starts over"):
        await uploads.receive(sent(header(size=1000, offset=131_072)))
    assert (await uploads.held(SHA)).offset == 0
