"""Fetching blobs from the server: each grows a partial file, from which a broken or killed transfer goes on.

Leaves checking the digest to ``slots`` and room on the disk to ``install``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from edge_compress.agent.backoff import Backoff
from edge_compress.api.v1 import artifacts_pb2, artifacts_pb2_grpc
from edge_compress.encoding import Form, unpacked
from edge_compress.errors import Corrupt, NotFound, StorageFull

log = logging.getLogger("edge_compress.agent")

STALL_SECONDS = 60.0
"""without a chunk for this long a transfer is broken off and tried again"""
_MAX_CHUNK_BYTES = 1 << 20
_NEEDS_BASE = frozenset({Form.DELTA.value, Form.PATCH.value})
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


ReadBase = Callable[[int, int], bytes]
"""(offset, length) -> so many bytes of the base from there; fewer at its end"""


@dataclass(frozen=True)
class Base:
    """A file that this device has and the server probably, too."""

    sha256: str
    path: Path


class Unlike(Corrupt):
    """Differences that cannot be unpacked: they came wrong, or the base is not the file that they were made to."""


@dataclass(frozen=True)
class Fetched:
    """A file is here. ``based``: some of it may be made of differences; ``wrong``: times that these could not be unpacked."""

    based: bool = False
    wrong: int = 0


class Transfer:
    """Downloads over whatever channel the session has; ``channel`` waits until there is one."""

    def __init__(self, channel: Callable[[], Awaitable[grpc.aio.Channel]], chance: random.Random) -> None:
        self._channel, self._chance = channel, chance

    async def fetch(
        self,
        sha256: str,
        size: int,
        path: Path,
        base: Base | None = None,
        bytes_per_second: float = 0.0,
        whole: bool = True,
    ) -> Fetched:
        """Grow ``path`` to ``size`` bytes, however often the link breaks; ``base``: a file that the server may send differences
        to; ``bytes_per_second``: that the link is to carry at most, 0: as many as it can; ``whole``: where differences cannot be
        unpacked it may go on without. Raises Unlike where it may not, Corrupt, NotFound, StorageFull or OSError."""
        backoff, wrong, began = Backoff(self._chance), 0, time.monotonic()
        with Partial(path, sha256, size) as partial, _reader(base) as read:
            partial.based = base is not None and partial.held > 0  # whoever began it may have had some
            if read is None and not whole and partial.held < size:
                raise Unlike(f"{partial.name}: there is no file here that differences could go to")
            while partial.held < size:
                channel, before = await self._channel(), partial.held
                try:
                    await _stream(channel, partial, base.sha256 if base else "", read, bytes_per_second)
                except Unlike as error:
                    if not whole:
                        raise
                    log.warning("an update by differences is wrong, all of it is fetched: %s", error)
                    base = read = None
                    wrong += 1
                    continue
                except (grpc.aio.AioRpcError, grpc.aio.UsageError, TimeoutError) as error:
                    _raise_if_final(error, partial)
                    log.info("fetching %s stopped at byte %d: %s", partial.name, partial.held, _why(error))
                if partial.held > before:
                    backoff.reset()
                if partial.held < size:
                    # The server paces each call by itself: a link that breaks often must not get more for that.
                    await asyncio.sleep(max(backoff.next(), owed(partial.received, bytes_per_second, time.monotonic() - began)))
            return Fetched(partial.based, wrong)


class Partial:
    """The file that a download grows, open for appending. Raises Corrupt for more bytes than there can be, OSError."""

    def __init__(self, path: Path, sha256: str, size: int) -> None:
        self.sha256, self.size, self.name = sha256, size, sha256[:12] + "…"
        self._path = path
        self.based = False
        """whether some of it may be made of differences"""
        self.received = 0
        """bytes as they travelled, since it was opened"""
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # closed by __exit__
        if self.held > size:
            held = self.held
            self.discard()
            raise Corrupt(f"{self.name}: {held} bytes arrived, expected {size}; they were thrown away")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def held(self) -> int:
        """Bytes so far: a download goes on from here."""
        return self._file.tell()

    def append(self, offset: int, data: bytes) -> None:
        """Add what a chunk brought. Raises Corrupt when it does not follow on, StorageFull."""
        if offset != self.held or offset + len(data) > self.size:
            raise Corrupt(f"{self.name}: bytes {offset} to {offset + len(data)} came where {self.held} of {self.size} were held")
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise StorageFull(f"no room on the disk: {self.name} needs {self.size} bytes, {self.held} fitted") from None

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _reader(base: Base | None) -> Iterator[ReadBase | None]:
    """What reads a stretch of the base; None without one, or where it cannot be opened."""
    try:
        file = None if base is None else base.path.open("rb")
    except OSError as error:
        log.info("no differences are asked for: %s", error)
        file = None
    if file is None:
        yield None
        return
    with file:
        yield lambda start, length: os.pread(file.fileno(), length, start)


async def _stream(channel: grpc.aio.Channel, partial: Partial, base: str, read: ReadBase | None, bytes_per_second: float) -> None:
    """One call: append chunks until the file is whole or the stream ends."""
    forms = [form for form in Form if form is not Form.IDENTITY and (read or form.value not in _NEEDS_BASE)]
    request = artifacts_pb2.DownloadBlobRequest(
        sha256=partial.sha256,
        offset_bytes=partial.held,
        accept=[artifacts_pb2.Encoding.Name(form.value) for form in forms],
        base_sha256=base if read else "",
        max_bytes_per_second=bytes_per_second,
    )
    call = artifacts_pb2_grpc.ArtifactServiceStub(channel).DownloadBlob(request)  # type: ignore[no-untyped-call]  # generated
    try:
        while partial.held < partial.size:
            async with asyncio.timeout(STALL_SECONDS + (_MAX_CHUNK_BYTES / bytes_per_second if bytes_per_second else 0)):
                chunk = await call.read()
            if chunk is grpc.aio.EOF:
                return
            partial.append(chunk.offset, unpack(chunk, read))
            partial.based |= chunk.encoding in _NEEDS_BASE
            partial.received += len(chunk.data)
    finally:
        call.cancel()


def owed(received: int, bytes_per_second: float, seconds: float) -> float:
    """How long a link must rest that carried ``received`` bytes in so many seconds; 0 bytes a second: it need not."""
    return max(0.0, received / bytes_per_second - seconds) if bytes_per_second > 0 else 0.0


def unpack(chunk: artifacts_pb2.Chunk, read: ReadBase | None = None) -> bytes:
    """The uncompressed bytes of a chunk. Raises Corrupt when they are not what their encoding says or over 1 MiB, Unlike where
    they are differences to a base."""
    try:
        form = Form(chunk.encoding or Form.IDENTITY.value)
        return unpacked(chunk.data, form, read, _MAX_CHUNK_BYTES)
    except ValueError as error:
        kind = Unlike if chunk.encoding in _NEEDS_BASE else Corrupt
        raise kind(f"the chunk at byte {chunk.offset} cannot be unpacked: {error}") from None


def _raise_if_final(error: Exception, partial: Partial) -> None:
    """Raise what trying again would not help."""
    code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
    if code is grpc.StatusCode.NOT_FOUND:
        raise NotFound("Blob", partial.name) from None
    if code is grpc.StatusCode.OUT_OF_RANGE:
        partial.discard()
        raise Corrupt(f"{partial.name}: the server's blob is shorter than what was fetched of it") from None
    if code in (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.INVALID_ARGUMENT):
        raise Corrupt(f"{partial.name}: {_why(error)}") from None


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return "no data for too long" if isinstance(error, TimeoutError) else str(error)
