"""Removes blobs that no record needs any more and uploads that nobody finished, once they are old enough.

While somebody counts on blobs (a running job, a model being checked) nothing is swept, and while the sweep runs they wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

from edge_compress.errors import Corrupt, EdgeCompressError, NotFound
from edge_compress.server.references import digests
from edge_compress.store.interface import Store

_log = logging.getLogger(__name__)
DAY = 24 * 3600.0
_KINDS = ("Model", "Artifact")


class BlobUse:
    """Lets those who count on blobs in by the dozen, and the sweep only when it is alone."""

    def __init__(self) -> None:
        self._users = 0
        self._door = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """No blob is swept in here."""
        async with self._door:
            self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Yields whether nobody counts on blobs; nobody begins to until it is left."""
        async with self._door:
            yield self._users == 0


class GarbageCollector:
    """Sweeps every ``every_seconds``; a blob must be ``age_seconds`` old to go."""

    def __init__(
        self,
        store: Store,
        use: BlobUse,
        *,
        age_seconds: float = DAY,
        every_seconds: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._use = store, use
        self._age, self._every, self._clock = age_seconds, every_seconds, clock

    async def run(self) -> None:
        """Sweep for ever. A sweep that fails is tried again at the next turn."""
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.sweep()
            except (EdgeCompressError, OSError) as error:
                _log.warning("could not remove unused blobs, will try again: %s", error)

    async def sweep(self) -> int:
        """Remove what nobody needs; returns how many blobs went. Does nothing while somebody counts on blobs."""
        async with self._use.alone() as alone:
            return await asyncio.to_thread(self._sweep) if alone else 0

    def _sweep(self) -> int:
        unused = set(self._store.blobs.digests())
        for kind in _KINDS:
            for record in self._store.list(kind).records:
                unused -= digests(kind, record.spec)
        old = [sha256 for sha256 in unused if self._old(sha256)]
        old += [sha256 for sha256, at in self._store.blobs.unfinished() if self._clock() - at > self._age]
        for sha256 in old:
            self._store.blobs.discard(sha256)
        if old:
            _log.info("removed unused blobs", extra={"fields": {"blobs": len(old)}})
        return len(old)

    def _old(self, sha256: str) -> bool:
        try:
            written = self._store.blobs.path(sha256).stat().st_mtime
        except (NotFound, Corrupt):
            return False
        return self._clock() - written > self._age
