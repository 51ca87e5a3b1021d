"""Sends blobs: verified before the first byte, from any offset, packed where that is smaller, not too many at once.

Chunks begin at multiples of their size wherever the client begins, so that what was packed for one device serves the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_compress.encoding import CHUNK_BYTES, Form, OnDisk, Source, packed
from edge_compress.errors import Corrupt, NotFound
from edge_compress.server.chunks import Chunk, PackedChunks
from edge_compress.server.refusals import Busy, OutOfStep
from edge_compress.server.uploads import check_digest
from edge_compress.store.interface import BlobStore

_AS_IT_IS = frozenset({Form.IDENTITY})
_NEEDS_BASE = frozenset({Form.DELTA, Form.PATCH})
_NEEDS_LAYOUT = _NEEDS_BASE | {Form.PLANES}
_SOURCES_KEPT = 8
_READ_AT_ONCE = 4
"""chunks that go as they are: more would save little, and a client that reads slowly has so many wait in memory"""


@dataclass(frozen=True)
class Request:
    """Which blob, from which of its uncompressed bytes on, in which forms; ``base``: another one that the receiver has;
    ``bytes_per_second``: that its link may be filled with, as they travel, 0: as fast as it goes."""

    sha256: str
    offset: int = 0
    forms: frozenset[Form] = _AS_IT_IS
    base: str = ""
    bytes_per_second: float = 0.0


class Pace:
    """Keeps the mean of a transfer at a number of bytes a second; 0: it never waits."""

    def __init__(self, bytes_per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = bytes_per_second, clock
        self._began, self._sent = clock(), 0

    def pause(self, sent: int) -> float:
        """Seconds to wait after ``sent`` more bytes."""
        self._sent += sent
        if self._rate <= 0:
            return 0.0
        return max(0.0, self._began + self._sent / self._rate - self._clock())


class _Place:
    """One of the places for downloads; who finds none in ``wait_seconds`` is refused."""

    def __init__(self, places: asyncio.Semaphore, wait_seconds: float) -> None:
        self._places, self._wait, self._taken = places, wait_seconds, False

    async def take(self) -> None:
        """Raises Busy."""
        try:
            async with asyncio.timeout(self._wait):
                await self._places.acquire()
        except TimeoutError as error:
            raise Busy("too many downloads at once; try again with back-off") from error
        self._taken = True

    def leave(self) -> None:
        """Let another have it; does nothing when it was left already."""
        if self._taken:
            self._taken = False
            self._places.release()


class Downloads:
    """Downloads from a blob store.

    ``at_once`` bounds them, for each holds some chunks; who finds no place in ``wait_seconds`` is refused. ``sent(kind, bytes)``
    hears of bytes that went out: ``full``, ``resumed``, or ``delta`` for those that need the base.
    """

    def __init__(
        self, blobs: BlobStore, *, sent: Callable[[str, int], None], at_once: int = 64, wait_seconds: float = 10.0
    ) -> None:
        self._blobs = blobs
        self._sent = sent
        self._places = asyncio.Semaphore(at_once)
        self._wait = wait_seconds
        self._packed = PackedChunks()
        self._sources: OrderedDict[Hashable, Source] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Begin no more work."""
        self._packed.close()

    async def read(self, request: Request) -> AsyncIterator[Chunk]:
        """The blob's chunks from the offset on. Raises NotFound, Corrupt, OutOfStep for an offset past the end, Busy."""
        check_digest(request.sha256)
        if request.base and request.forms & _NEEDS_BASE:
            check_digest(request.base)
        else:
            request = replace(request, base="")
        place = _Place(self._places, self._wait)
        await place.take()
        try:
            source, file = await asyncio.to_thread(self._opened, request)
            if not 0 <= request.offset <= len(source.file):
                raise OutOfStep.at("offset_bytes", request.offset, f"0 to {len(source.file)}, the size of the blob")
            async for chunk in self._chunks(source, request, file, place):
                yield chunk
        finally:
            place.leave()

    async def _chunks(self, source: Source, request: Request, file: Hashable, place: _Place) -> AsyncIterator[Chunk]:
        kind, pace = "resumed" if request.offset else "full", Pace(request.bytes_per_second)
        places = _places(request.offset, len(source.file))
        at_once = _READ_AT_ONCE if request.forms == _AS_IT_IS and not request.bytes_per_second else 1
        while some := list(itertools.islice(places, at_once)):
            for chunk in await self._read(source, request, file, some):
                # Before it goes: a receiver hangs up as soon as it has the last one, and nothing after that is reached for sure.
                self._sent("delta" if chunk.form in _NEEDS_BASE else kind, len(chunk.data))
                yield chunk
                if (pause := pace.pause(len(chunk.data))) and some[-1][1] < len(source.file):
                    place.leave()  # it holds no chunk while it waits
                    await asyncio.sleep(pause)
                    await place.take()

    def _opened(self, request: Request) -> tuple[Source, Hashable]:
        """The file to send, with its base where that is here, and what names both with the forms: a file that was put in the
        place of another one is another file. Blocks."""
        path, base = self._blobs.path(request.sha256), None
        if request.base:
            with contextlib.suppress(NotFound, Corrupt):
                base = self._blobs.path(request.base)
        plain = not request.forms & _NEEDS_LAYOUT
        name = (_identity(path), None if base is None else _identity(base), plain)
        with self._lock:
            kept = self._sources.get(name)
        if kept is None:
            file = OnDisk(path)
            kept = Source(file, ()) if plain else Source.of(file, None if base is None else OnDisk(base))
        with self._lock:
            kept = self._sources.setdefault(name, kept)
            self._sources.move_to_end(name)
            while len(self._sources) > _SOURCES_KEPT:
                self._sources.popitem(last=False)  # closed once nobody reads it any more
        return kept, (name, request.forms)

    async def _read(self, source: Source, request: Request, file: Hashable, places: Sequence[tuple[int, int]]) -> list[Chunk]:
        """The chunks at some places: several where they go as they are, for a thread's turn costs as much as reading one."""
        offset, end = places[0]
        # A first chunk that starts in the middle is nobody else's: packing it would cost more than it saves.
        try:
            if request.forms != _AS_IT_IS and offset % CHUNK_BYTES == 0:
                chunk = await self._packed.chunk(file, offset, lambda: packed(source, offset, end, request.forms))
                if chunk is not None:
                    return [chunk]
            return await asyncio.to_thread(lambda: [Chunk(start, source.file[start:stop]) for start, stop in places])
        except EOFError as error:
            raise Corrupt(f"blob {request.sha256[:12]}: {error}") from error


def _identity(path: Path) -> tuple[int, ...]:
    """What a path stands for now."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size


def _places(offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the chunks from ``offset`` on begin and end."""
    while offset < size:
        end = min(size, (offset // CHUNK_BYTES + 1) * CHUNK_BYTES)
        yield offset, end
        offset = end
