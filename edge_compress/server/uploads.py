"""Receives blobs: in order, resumable by (sha256, offset), one sender per digest, never more than was announced.

Leaves to the blob store how bytes become durable and verified, and to ``chunks`` how a chunk is packed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from edge_compress.api.v1 import artifacts_pb2
from edge_compress.errors import Conflict, InvalidInput, TooLarge
from edge_compress.server.chunks import unpack
from edge_compress.server.refusals import OutOfStep, Silent
from edge_compress.store.interface import BlobStore

P = ParamSpec("P")
T = TypeVar("T")

_DIGEST = re.compile(r"^[0-9a-f]{64}$")
SYNC_BYTES = 8 * 1024 * 1024
"""how much a power cut may cost"""


@dataclass(frozen=True)
class Held:
    """How much of a blob is here: all of it, or its first ``offset`` bytes."""

    sha256: str
    complete: bool
    offset: int


def check_digest(sha256: str, field: str = "sha256") -> str:
    """``sha256`` when it is a digest. Raises InvalidInput naming ``field``."""
    if not _DIGEST.match(sha256):
        raise InvalidInput.at(field, sha256, "64 lower case hexadecimal digits")
    return sha256


class Uploads:
    """Uploads into a blob store. ``limit_bytes`` bounds one blob; a sender silent for ``idle_seconds`` is dropped."""

    def __init__(self, blobs: BlobStore, *, limit_bytes: int, idle_seconds: float = 60.0) -> None:
        self._blobs = blobs
        self._limit = limit_bytes
        self._idle = idle_seconds
        self._receiving: set[str] = set()

    async def held(self, sha256: str) -> Held:
        """What is here of a blob. Raises InvalidInput for a text that is no digest."""
        check_digest(sha256)
        return await asyncio.to_thread(self._look, sha256)

    async def receive(self, parts: AsyncIterator[artifacts_pb2.UploadBlobRequest]) -> Held:
        """Take one upload: a header, then chunks. What arrived is kept when it breaks off.

        Raises InvalidInput, TooLarge, OutOfStep (not where we stand), Conflict (somebody else sends it), Corrupt, StorageFull.
        """
        header = await self._header(parts)
        if header.sha256 in self._receiving:
            raise Conflict(f"blob {header.sha256[:12]} is being uploaded by somebody else just now; try again later")
        self._receiving.add(header.sha256)
        try:
            return await self._receive(header, parts)
        finally:
            self._receiving.discard(header.sha256)

    async def _receive(self, header: artifacts_pb2.UploadHeader, parts: AsyncIterator[artifacts_pb2.UploadBlobRequest]) -> Held:
        held = await self.held(header.sha256)
        if held.complete:
            return held
        if header.offset_bytes != held.offset:
            raise OutOfStep.at("header.offset_bytes", header.offset_bytes, str(held.offset), "ask GetBlob and go on from there")
        if held.offset > header.size_bytes:
            await asyncio.to_thread(self._blobs.discard, header.sha256)
            raise OutOfStep.at("header.size_bytes", header.size_bytes, f"at least {held.offset}", "the upload starts over")
        offset = await self._append_all(header, held.offset, parts)
        if offset < header.size_bytes:
            return Held(header.sha256, False, offset)
        await _to_its_end(self._blobs.commit, header.sha256)
        return Held(header.sha256, True, offset)

    async def _append_all(
        self, header: artifacts_pb2.UploadHeader, offset: int, parts: AsyncIterator[artifacts_pb2.UploadBlobRequest]
    ) -> int:
        synced = offset
        try:
            while offset < header.size_bytes and (part := await self._next(parts)) is not None:
                offset = await _to_its_end(self._append, header, offset, part)
                if offset - synced >= SYNC_BYTES:
                    await _to_its_end(self._blobs.sync_partial, header.sha256)
                    synced = offset
        finally:
            if offset > synced:
                await _to_its_end(self._blobs.sync_partial, header.sha256)
        return offset

    def _append(self, header: artifacts_pb2.UploadHeader, offset: int, part: artifacts_pb2.UploadBlobRequest) -> int:
        if part.WhichOneof("part") != "chunk":
            raise InvalidInput.at("part", part.WhichOneof("part"), "a chunk after the header")
        if part.chunk.offset != offset:
            raise OutOfStep.at("chunk.offset", part.chunk.offset, str(offset), "chunks follow each other without gaps")
        data = unpack(part.chunk)
        if offset + len(data) > header.size_bytes:
            raise InvalidInput.at("chunk.data", f"{offset + len(data)} bytes", f"at most the {header.size_bytes} announced")
        return self._blobs.append(header.sha256, offset, data)

    async def _header(self, parts: AsyncIterator[artifacts_pb2.UploadBlobRequest]) -> artifacts_pb2.UploadHeader:
        first = await self._next(parts)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput.at("part", first and first.WhichOneof("part"), "a header as the first message")
        header = first.header
        check_digest(header.sha256, "header.sha256")
        if header.size_bytes < 0 or header.offset_bytes < 0:
            raise InvalidInput.at("header", (header.size_bytes, header.offset_bytes), "sizes and offsets of zero or more")
        if header.size_bytes > self._limit:
            raise TooLarge(
                f"header.size_bytes: read {header.size_bytes}, expected at most this server's limit of {self._limit} bytes"
            )
        return header

    async def _next(self, parts: AsyncIterator[artifacts_pb2.UploadBlobRequest]) -> artifacts_pb2.UploadBlobRequest | None:
        try:
            async with asyncio.timeout(self._idle):
                return await anext(parts, None)
        except TimeoutError as error:
            raise Silent(f"nothing arrived for {self._idle:g} s; ask GetBlob and go on from there") from error

    def _look(self, sha256: str) -> Held:
        if self._blobs.has(sha256):
            return Held(sha256, True, self._blobs.size(sha256))
        return Held(sha256, False, self._blobs.partial(sha256))


async def _to_its_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread, and when the call is cancelled wait for the thread all the same: the next sender must not meet it."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
