"""Downloads: from any offset, packed where smaller, verified, and not too many at once."""

import hashlib
import os

import pytest

from edge_compress import encoding
from edge_compress.encoding import CHUNK_BYTES, Form
from edge_compress.errors import Corrupt, InvalidInput, NotFound
from edge_compress.server.downloads import Downloads, Request
from edge_compress.server.refusals import Busy, OutOfStep

DATA = os.urandom(CHUNK_BYTES) + bytes(CHUNK_BYTES) + b"tail" * 1000
ONLY = frozenset({Form.IDENTITY})


@pytest.fixture
def sha256(store):
    return store.blobs.put_bytes(DATA)


@pytest.fixture
def sent():
    return []


@pytest.fixture
def downloads(store, sent):
    return Downloads(store.blobs, sent=lambda kind, amount: sent.append((kind, amount)), at_once=2, wait_seconds=0.05)


def plain(chunk):
    return encoding.unpacked(chunk.data, chunk.form, None)


async def read(downloads, request):
    return [chunk async for chunk in downloads.read(request)]


@pytest.mark.parametrize("forms", [ONLY, ONLY | {Form.ZSTD}, frozenset(Form)])
@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 7, len(DATA) - 1, len(DATA)])
async def test_every_byte_from_any_offset(downloads, sha256, offset, forms):
    chunks = await read(downloads, Request(sha256, offset, forms))
    at = offset
    for chunk in chunks:
        assert chunk.offset == at
        at += len(plain(chunk))
    assert b"".join(map(plain, chunks)) == DATA[offset:]


async def test_only_what_shrinks_is_packed_and_only_for_those_who_can_unpack(downloads, sha256):
    packed = await read(downloads, Request(sha256, forms=frozenset(Form)))
    assert [chunk.form for chunk in packed] == [Form.IDENTITY, Form.ZSTD, Form.ZSTD]
    assert {chunk.form for chunk in await read(downloads, Request(sha256))} == ONLY


async def test_differences_to_what_the_receiver_has_are_sent_and_counted_apart(downloads, store, sha256, sent):
    changed = DATA[:1000] + b"changed" + DATA[1007:]
    other = store.blobs.put_bytes(changed)
    chunks = await read(downloads, Request(other, forms=frozenset(Form), base=sha256))
    assert {chunk.form for chunk in chunks} == {Form.PATCH}
    made = [encoding.unpacked(chunk.data, chunk.form, lambda start, length: DATA[start : start + length]) for chunk in chunks]
    assert b"".join(made) == changed
    assert {kind for kind, _ in sent} == {"delta"}
    assert sum(amount for _, amount in sent) < len(DATA) / 100


async def test_a_base_is_looked_at_only_where_it_may_be_used(downloads, sha256):
    with pytest.raises(InvalidInput):
        await read(downloads, Request(sha256, forms=frozenset(Form), base="x" * 1000))
    for number in range(20):
        assert await read(downloads, Request(sha256, forms=ONLY | {Form.ZSTD}, base=f"{number}" * 1000))
    assert len({file for file, _ in downloads._packed._kept}) == 1
    assert len(downloads._sources) == 1


async def test_a_blob_that_was_put_in_the_place_of_a_broken_one_is_sent(downloads, store, sha256):
    await read(downloads, Request(sha256, forms=frozenset(Form)))
    path = store.blobs.path(sha256)
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(b"rot" + whole[3:])
    with pytest.raises(Corrupt):
        await read(downloads, Request(sha256, forms=frozenset(Form)))
    assert store.blobs.put_bytes(DATA) == sha256
    chunks = await read(downloads, Request(sha256, forms=frozenset(Form)))
    assert b"".join(map(plain, chunks)) == DATA


async def test_without_the_base_all_is_sent(downloads, sha256):
    chunks = await read(downloads, Request(sha256, forms=frozenset(Form), base=hashlib.sha256(b"gone").hexdigest()))
    assert b"".join(map(plain, chunks)) == DATA


async def test_bytes_on_the_link_are_counted(downloads, sha256, sent):
    await read(downloads, Request(sha256))
    assert (sum(amount for _, amount in sent), {kind for kind, _ in sent}) == (len(DATA), {"full"})
    sent.clear()
    await read(downloads, Request(sha256, CHUNK_BYTES))
    assert (sum(amount for _, amount in sent), {kind for kind, _ in sent}) == (len(DATA) - CHUNK_BYTES, {"resumed"})


async def test_the_last_chunk_counts_although_its_receiver_hangs_up_with_it(downloads, sha256, sent):
    chunks = downloads.read(Request(sha256))
    while sum(amount for _, amount in sent) < len(DATA):
        await anext(chunks)
    await chunks.aclose()
    assert [amount for _, amount in sent] == [CHUNK_BYTES, CHUNK_BYTES, len(DATA) - 2 * CHUNK_BYTES]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Request("beef"), InvalidInput),
        (Request(hashlib.sha256(b"nobody has it").hexdigest()), NotFound),
    ],
)
async def test_what_is_not_there_is_refused(downloads, request_, error):
    with pytest.raises(error):
        await read(downloads, request_)


@pytest.mark.parametrize("offset", [-1, len(DATA) + 1])
async def test_offsets_outside_the_blob_are_refused(downloads, sha256, offset):
    with pytest.raises(OutOfStep, match="offset_bytes"):
        await read(downloads, Request(sha256, offset))


async def test_a_changed_byte_is_found_before_the_first_byte_leaves(downloads, store, sha256):
    path = store.blobs.path(sha256)
    path.chmod(0o600)
    path.write_bytes(b"\0" + DATA[1:] if DATA[0] else b"\1" + DATA[1:])
    stream = downloads.read(Request(sha256))
    with pytest.raises(Corrupt):
        await anext(stream)


async def test_too_many_at_once_are_refused_and_places_come_free_again(downloads, sha256):
    streams = [downloads.read(Request(sha256)) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(Busy):
        await read(downloads, Request(sha256))
    for stream in streams:
        await stream.aclose()
    assert await read(downloads, Request(sha256))
    with pytest.raises(NotFound):
        await read(downloads, Request("0" * 64))
    for _ in range(3):
        assert await read(downloads, Request(sha256)), "a refused one gives its place back too"
