"""How bytes are packed for the link: chunks of 512 KiB, each its own zstd frame where that is smaller.

Each chunk stands by itself, so that a transfer resumes at any chunk boundary. Server, agent and the figures that people see use
this one reckoning.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 512 * 1024
REVISION = 2
"""of how chunks are packed: what is remembered of packed sizes is remembered with it"""
_LEVEL = 12
_WORTH_MORE = 0.85
"""share that the quick level must shrink a chunk to for a slow one to be tried: float weights gain a tenth of a per cent by it"""
_SLOW: dict[int, int] = {zstd.CompressionParameter.compression_level: 16, zstd.CompressionParameter.min_match: 7}
"""for weights in few bits: shorter matches are chance there and cost more than the bytes themselves (6% of an int8 model)"""


def pack(chunk: bytes) -> tuple[bytes, bool]:
    """The bytes to send for ``chunk``, and whether they are a zstd frame."""
    packed = zstd.compress(chunk, level=_LEVEL)
    if len(packed) <= _WORTH_MORE * len(chunk):
        packed = min(packed, zstd.compress(chunk, options=_SLOW), key=len)
    return (packed, True) if len(packed) < len(chunk) else (chunk, False)


def unpack(data: bytes, limit: int = 2 * CHUNK_BYTES) -> bytes:
    """The chunk behind a zstd frame. Raises ValueError for what is no frame or unpacks to more than ``limit`` bytes."""
    try:
        unpacked = zstd.ZstdDecompressor().decompress(data, max_length=limit + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"not a zstd frame: {error}") from error
    if len(unpacked) > limit:
        raise ValueError(f"a chunk unpacks to more than {limit} bytes")
    return unpacked


def packed_bytes(path: Path) -> int:
    """Bytes that a file takes on the link."""
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            total += len(pack(chunk)[0])
    return total
