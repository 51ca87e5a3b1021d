"""Makes statuses of devices durable: those that come while one transaction is being written share the next one.

Thousands of devices move at once when they are updated; a thread and a transaction for each of them cost more than the writing.
What a status should be, and that changes of one device follow each other, is left to ``devices``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from edge_compress.domain.fleet import DeviceStatus
from edge_compress.domain.schema import encode
from edge_compress.errors import NotFound
from edge_compress.store.interface import ResourceStore

KIND = "Device"
_LARGEST_BATCH = 1000
"""in one transaction: enough to cost little each, few enough that other writers need not wait long"""
_Waiting = dict[str, tuple[DeviceStatus, asyncio.Future[None]]]


class StatusWriter:
    """Writes statuses of records of kind Device. Call it on one event loop, for one device once at a time."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._waiting: _Waiting = {}
        self._writing: asyncio.Task[None] | None = None

    async def write(self, name: str, status: DeviceStatus) -> None:
        """Return once it is durable. Raises NotFound, and what the store raises; nobody else's status suffers from that."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[name] = status, written
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())
        await written

    async def write_many(self, statuses: Mapping[str, DeviceStatus]) -> AsyncIterator[frozenset[str]]:
        """The same for many devices, some at a time: yields the names of those that have become durable; devices that are not
        there are left out. What the store raises comes through; then nothing of the rest is durable."""
        names = list(statuses)
        for start in range(0, len(names), _LARGEST_BATCH):
            batch = {name: statuses[name] for name in names[start : start + _LARGEST_BATCH]}
            yield frozenset(batch) - await asyncio.to_thread(self._store_all, batch)

    async def _write_all(self) -> None:
        while self._waiting:
            names = list(self._waiting)[:_LARGEST_BATCH]
            await self._keep({name: self._waiting.pop(name) for name in names})

    async def _keep(self, batch: _Waiting) -> None:
        try:
            gone = await asyncio.to_thread(self._store_all, {name: status for name, (status, _) in batch.items()})
        except Exception as error:
            if len(batch) > 1:
                for name, one in batch.items():
                    await self._keep({name: one})
                return
            for _, written in batch.values():
                _settle(written, error)
            return
        for name, (_, written) in batch.items():
            _settle(written, NotFound(KIND, name) if name in gone else None)

    def _store_all(self, statuses: Mapping[str, DeviceStatus]) -> frozenset[str]:
        return self._store.set_statuses(KIND, {name: encode(status) for name, status in statuses.items()})


def _settle(written: asyncio.Future[None], error: Exception | None) -> None:
    if written.done():  # cancelled with its event loop
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
