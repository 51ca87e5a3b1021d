"""Sends blobs: verified before the first byte, from any offset, packed where that is smaller, not too many at once.

Chunks begin at multiples of their size wherever the client begins, so that what was packed for one device serves the next.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from edge_compress.encoding import CHUNK_BYTES
from edge_compress.errors import Corrupt
from edge_compress.server.chunks import Chunk, PackedChunks
from edge_compress.server.refusals import Busy, OutOfStep
from edge_compress.server.uploads import check_digest
from edge_compress.store.interface import BlobStore


@dataclass(frozen=True)
class Request:
    """Which blob, from which of its uncompressed bytes on, and whether zstd is understood."""

    sha256: str
    offset: int = 0
    packed: bool = False


class Downloads:
    """Downloads from a blob store.

    ``at_once`` bounds them, for each holds some chunks; who finds no place in ``wait_seconds`` is refused. ``sent(kind, bytes)``
    hears of bytes that went out, ``full`` or ``resumed``.
    """

    def __init__(
        self, blobs: BlobStore, *, sent: Callable[[str, int], None], at_once: int = 64, wait_seconds: float = 10.0
    ) -> None:
        self._blobs = blobs
        self._sent = sent
        self._places = asyncio.Semaphore(at_once)
        self._wait = wait_seconds
        self._packed = PackedChunks()

    async def read(self, request: Request) -> AsyncIterator[Chunk]:
        """The blob's chunks from the offset on. Raises NotFound, Corrupt, OutOfStep for an offset past the end, Busy."""
        check_digest(request.sha256)
        await self._take_place()
        try:
            path = await asyncio.to_thread(self._blobs.path, request.sha256)
            size = await asyncio.to_thread(os.path.getsize, path)
            if not 0 <= request.offset <= size:
                raise OutOfStep.at("offset_bytes", request.offset, f"0 to {size}, the size of the blob")
            file = await asyncio.to_thread(open, path, "rb")
            with file:
                async for chunk in self._chunks(file.fileno(), request, size):
                    yield chunk
        finally:
            self._places.release()

    async def _chunks(self, file: int, request: Request, size: int) -> AsyncIterator[Chunk]:
        kind = "resumed" if request.offset else "full"
        offset = request.offset
        while offset < size:
            end = min(size, (offset // CHUNK_BYTES + 1) * CHUNK_BYTES)
            chunk = await asyncio.to_thread(self._read, file, request, offset, end)
            yield chunk
            self._sent(kind, len(chunk.data))
            offset = end

    def _read(self, file: int, request: Request, offset: int, end: int) -> Chunk:
        data = os.pread(file, end - offset, offset)
        if len(data) != end - offset:
            raise Corrupt(f"blob {request.sha256[:12]} became shorter while it was read")
        # A first chunk that starts in the middle is nobody else's: packing it would cost more than it saves.
        if request.packed and offset % CHUNK_BYTES == 0:
            return self._packed.chunk(request.sha256, offset, data)
        return Chunk(offset, data)

    async def _take_place(self) -> None:
        try:
            async with asyncio.timeout(self._wait):
                await self._places.acquire()
        except TimeoutError as error:
            raise Busy("too many downloads at once; try again with back-off") from error
