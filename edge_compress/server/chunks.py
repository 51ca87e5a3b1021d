"""Chunks of a blob on the wire: a hand codec for ``Chunk{offset, data, encoding}`` and their packing with zstd.

Protobuf copies the bytes of a message several times; these messages are nearly all bytes, so they are written by hand and
cost less than half. ``tests/unit/server/test_chunks.py`` holds the codec to the generated one. Leaves to ``encoding`` how bytes
are packed, to ``downloads`` which chunks go out, and to ``uploads`` what becomes of those that come in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from edge_compress import encoding
from edge_compress.api.v1 import artifacts_pb2
from edge_compress.encoding import CHUNK_BYTES, Form
from edge_compress.errors import InvalidInput

LARGEST_CHUNK = 2 * CHUNK_BYTES
_ENTRY_BYTES = 256
"""what it costs to remember that a chunk does not shrink"""


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
    """Packed chunks kept for the next device, at most ``limit_bytes`` of them, the least recently used dropped first."""

    def __init__(self, limit_bytes: int = 128 * 1024 * 1024) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[Hashable, int], tuple[bytes, Form]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def chunk(self, file: Hashable, start: int, end: int, make: Callable[[], tuple[bytes, Form]]) -> Chunk | None:
        """The bytes of a file from ``start`` to ``end`` as ``make`` packs them; None where they are smallest as they are.
        ``file``: what names it, its base and the forms that the device takes. Safe from any thread."""
        key = (file, start)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is None:
            data, form = make()
            kept = (b"" if form is Form.IDENTITY else data, form)
            self._keep(key, kept)
        return None if kept[1] is Form.IDENTITY else Chunk(start, *kept)

    def _keep(self, key: tuple[Hashable, int], packed: tuple[bytes, Form]) -> None:
        with self._lock:
            if key not in self._kept:
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
