"""Chunks of a blob on the wire: a hand codec for ``Chunk{offset, data, encoding}`` and their packing with zstd.

Protobuf copies the bytes of a message several times; these messages are nearly all bytes, so they are written by hand and
cost less than half. ``tests/unit/server/test_chunks.py`` holds the codec to the generated one. Leaves to ``downloads`` which
chunks go out, and to ``uploads`` what becomes of those that come in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from edge_compress.api.v1 import artifacts_pb2
from edge_compress.errors import InvalidInput

try:
    from compression import zstd
except ImportError:  # Python 3.13 and older: the same interface (PEP 784) from a package
    from backports import zstd

CHUNK_BYTES = 512 * 1024
LARGEST_CHUNK = 1024 * 1024
_LEVEL = 9
"""a chunk is packed once and sent to a whole fleet"""


@dataclass(frozen=True)
class Chunk:
    """Some bytes of a blob, from ``offset`` of the uncompressed bytes on; ``packed`` when ``data`` is one zstd frame."""

    offset: int
    data: bytes
    packed: bool = False


def serialize(chunk: Chunk) -> bytes:
    """The wire form, equal in meaning to ``artifacts_pb2.Chunk(...).SerializeToString()``."""
    encoding = artifacts_pb2.ENCODING_ZSTD if chunk.packed else artifacts_pb2.ENCODING_IDENTITY
    head = b"\x08" + _varint(chunk.offset) + b"\x18" + bytes((encoding,)) + b"\x12" + _varint(len(chunk.data))
    return b"".join((head, chunk.data))


def pack(data: bytes) -> bytes | None:
    """One zstd frame that holds ``data``, or None when that is no smaller."""
    packed = zstd.compress(data, level=_LEVEL)
    return packed if len(packed) < len(data) else None


def unpack(chunk: artifacts_pb2.Chunk) -> bytes:
    """The uncompressed bytes of a received chunk. Raises InvalidInput for more than 1 MiB, a broken frame, an unknown encoding."""
    if chunk.encoding in (artifacts_pb2.ENCODING_UNSPECIFIED, artifacts_pb2.ENCODING_IDENTITY):
        return _at_most(chunk.data)
    if chunk.encoding != artifacts_pb2.ENCODING_ZSTD:
        raise InvalidInput.at("chunk.encoding", int(chunk.encoding), "ENCODING_IDENTITY or ENCODING_ZSTD")
    unpacker = zstd.ZstdDecompressor()
    try:
        data = unpacker.decompress(chunk.data, max_length=LARGEST_CHUNK + 1)
    except zstd.ZstdError as error:
        raise InvalidInput.at("chunk.data", chunk.data[:8], "a zstd frame") from error
    if not unpacker.eof or unpacker.unused_data:
        _at_most(data)
        raise InvalidInput.at("chunk.data", chunk.data[:8], "exactly one whole zstd frame")
    return _at_most(data)


class PackedChunks:
    """Packed chunks kept for the next device, at most ``limit_bytes`` of them, the least recently used dropped first."""

    def __init__(self, limit_bytes: int = 128 * 1024 * 1024) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def chunk(self, sha256: str, offset: int, data: bytes) -> Chunk:
        """The chunk of blob ``sha256`` at ``offset``: packed where that is smaller, else as it is. Safe from any thread."""
        key = (sha256, offset)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is None:
            kept = pack(data) or b""
            self._keep(key, kept)
        return Chunk(offset, kept, packed=True) if kept else Chunk(offset, data)

    def _keep(self, key: tuple[str, int], packed: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = packed
                self._bytes += len(packed)
            while self._bytes > self._limit:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped)


def _at_most(data: bytes) -> bytes:
    if len(data) > LARGEST_CHUNK:
        raise InvalidInput.at("chunk.data", f"over {LARGEST_CHUNK} bytes", "at most 1 MiB uncompressed", "send smaller chunks")
    return data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
