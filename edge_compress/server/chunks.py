"""Chunks of a blob on the wire: a hand codec for ``Chunk{offset, data, encoding}`` and their packing with zstd.

Protobuf copies the bytes of a message several times; these messages are nearly all bytes, so they are written by hand and
cost less than half. ``tests/unit/server/test_chunks.py`` holds the codec to the generated one. Leaves to ``encoding`` how bytes
are packed, to ``downloads`` which chunks go out, and to ``uploads`` what becomes of those that come in.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edge_compress import encoding
from edge_compress.api.v1 import artifacts_pb2
from edge_compress.encoding import CHUNK_BYTES, Form
from edge_compress.errors import InvalidInput

LARGEST_CHUNK = 2 * CHUNK_BYTES
_ENTRY_BYTES = 256
"""what it costs to remember that a chunk does not shrink"""
_Key = tuple[Hashable, int]
_Packed = tuple[bytes, Form]


@dataclass(frozen=True)
class Chunk:
    """Some bytes of a blob, from ``offset`` of the uncompressed bytes on, in some form."""

    offset: int
    data: bytes
    form: Form = Form.IDENTITY


def serialize(chunk: Chunk) -> bytes:
    """The wire form, equal in meaning to ``artifacts_pb2.Chunk(...).SerializeToString()``."""
    head = b"\x08" + _varint(chunk.offset) + b"\x18" + bytes((chunk.form.value,)) + b"\x12" + _varint(len(chunk.data))
    return b"".join((head, chunk.data))


def unpack(chunk: artifacts_pb2.Chunk) -> bytes:
    """The uncompressed bytes of a received chunk. Raises InvalidInput for over 1 MiB and for a broken frame."""
    if chunk.encoding in (artifacts_pb2.ENCODING_UNSPECIFIED, artifacts_pb2.ENCODING_IDENTITY):
        if len(chunk.data) > LARGEST_CHUNK:
            raise InvalidInput.at("chunk.data", f"{len(chunk.data)} bytes", f"at most {LARGEST_CHUNK}", "send smaller chunks")
        return chunk.data
    if chunk.encoding != artifacts_pb2.ENCODING_ZSTD:
        raise InvalidInput.at("chunk.encoding", int(chunk.encoding), "ENCODING_IDENTITY or ENCODING_ZSTD")
    try:
        return encoding.unpack(chunk.data, LARGEST_CHUNK)
    except ValueError as error:
        raise InvalidInput.at(
            "chunk.data", chunk.data[:8], f"one zstd frame of at most {LARGEST_CHUNK} bytes", str(error)
        ) from error


class PackedChunks:
    """Packed chunks kept for the next device, at most ``limit_bytes`` of them, the least recently used dropped first.

    However many ask for a chunk at the same time, it is packed once: a fleet that is updated asks for the same ones all at once.
    Packing has threads of its own, one for each core, for it would keep the store's busy. Call it on one event loop.
    """

    def __init__(self, limit_bytes: int = 128 * 1024 * 1024) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[_Key, _Packed] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[_Key, asyncio.Future[_Packed]] = {}
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pack")

    def close(self) -> None:
        """Pack no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def chunk(self, file: Hashable, start: int, make: Callable[[], _Packed]) -> Chunk | None:
        """The bytes of a file from ``start`` on as ``make`` packs them, in a thread; None where they are smallest as they are.
        ``file``: what names it, its base and the forms that the device takes. Raises what ``make`` raises."""
        key = (file, start)
        packed = self._kept.get(key)
        if packed is None:
            packed = await asyncio.shield(self._under_way.get(key) or self._begun(key, make))
        else:
            self._kept.move_to_end(key)
        data, form = packed
        return None if form is Form.IDENTITY else Chunk(start, data, form)

    def _begun(self, key: _Key, make: Callable[[], _Packed]) -> asyncio.Future[_Packed]:
        work = self._under_way[key] = asyncio.get_running_loop().run_in_executor(self._threads, make)
        work.add_done_callback(lambda _: self._ended(key, work))
        return work

    def _ended(self, key: _Key, work: asyncio.Future[_Packed]) -> None:
        del self._under_way[key]
        if not work.cancelled() and work.exception() is None:
            data, form = work.result()
            self._keep(key, (b"" if form is Form.IDENTITY else data, form))

    def _keep(self, key: _Key, packed: _Packed) -> None:
        self._kept[key] = packed
        self._bytes += len(packed[0]) + _ENTRY_BYTES
        while self._bytes > self._limit:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped[0]) + _ENTRY_BYTES


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
