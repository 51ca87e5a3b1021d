"""The devices the server knows, in memory as they are in the store. Each change is durable before it can be seen here.

Changes of one device follow each other; those of different devices do not wait for each other. What a change should be is
decided in ``fleet``.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from edge_compress.delivery.statuses import KIND, StatusWriter
from edge_compress.domain.fleet import DeviceSpec, DeviceStatus
from edge_compress.domain.schema import decode, encode
from edge_compress.errors import NotFound
from edge_compress.store.interface import Record, ResourceStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it last became durable."""

    name: str
    spec: DeviceSpec
    status: DeviceStatus

    @property
    def made_for(self) -> str:
        """Profile that its artifacts are made for: the one it names, or the one that is true of it."""
        return self.status.made_for or self.spec.profile


class DeviceBook:
    """Device records. Call it on one event loop; ``load``, ``all`` and ``get`` from any thread.

    ``noted`` is called with each device that came, changed or went.
    """

    def __init__(self, store: ResourceStore, *, noted: Callable[[str], None] = lambda name: None) -> None:
        self._store, self._statuses = store, StatusWriter(store)
        self._noted = noted
        self._devices: dict[str, Device] = {}
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def load(self) -> None:
        """Read what is stored; blocks."""
        self._devices = {record.name: _device(record) for record in self._store.list(KIND).records}
        for name in self._devices:
            self._noted(name)

    def get(self, name: str) -> Device | None:
        """The device, or None when it never joined."""
        return self._devices.get(name)

    def all(self) -> list[Device]:
        """Every device."""
        return list(self._devices.values())

    async def join(self, name: str, spec: DeviceSpec, change: Callable[[DeviceStatus], DeviceStatus]) -> Device:
        """Create or replace what a device says it is, and change its status."""

        async def work() -> Device:
            record, _ = await asyncio.to_thread(
                self._store.apply, KIND, name, labels=spec.labels, spec=encode(spec), status=encode(change(DeviceStatus()))
            )
            self._devices[name] = _device(record)
            self._noted(name)
            return await self._change(name, change)

        return await self._in_turn(name, work)

    async def change(self, name: str, change: Callable[[DeviceStatus], DeviceStatus]) -> Device:
        """Change the status. Raises NotFound for a device that is not there."""
        return await self._in_turn(name, lambda: self._change(name, change))

    async def change_many(self, changes: Mapping[str, Callable[[DeviceStatus], DeviceStatus]]) -> None:
        """Change many statuses, for far less than one by one; devices that are not there are left out. What the store raises
        comes through."""
        free = {name: change for name, change in changes.items() if name in self._devices and not self._turns[name].locked()}
        await asyncio.shield(self._change_together(free))
        busy = [self.change(name, change) for name, change in changes.items() if name in self._devices and name not in free]
        for ended in await asyncio.gather(*busy, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, NotFound):
                raise ended

    async def _change_together(self, changes: Mapping[str, Callable[[DeviceStatus], DeviceStatus]]) -> None:
        turns = [self._turns[name] for name in changes]
        for turn in turns:
            await turn.acquire()  # at once: nobody has it
        try:
            here = {name: self._devices[name] for name in changes if name in self._devices}
            new = {name: changes[name](device.status) for name, device in here.items()}
            changed = {name: status for name, status in new.items() if status != here[name].status}
            async for written in self._statuses.write_many(changed):
                self._devices |= {name: replace(here[name], status=new[name]) for name in written}
                for name in written:
                    self._noted(name)
        finally:
            for turn in turns:
                turn.release()

    async def remove(self, name: str) -> None:
        """Forget a device. Raises NotFound."""

        async def work() -> None:
            await asyncio.to_thread(self._store.delete, KIND, name)
            self._devices.pop(name, None)
            self._noted(name)

        await self._in_turn(name, work)
        self._turns.pop(name, None)

    async def _in_turn(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work`` when no other change of the device is under way, to its end: were it cancelled with its caller, what is
        stored and what is remembered could differ."""

        async def turn() -> T:
            async with self._turns[name]:
                return await work()

        return await asyncio.shield(turn())

    async def _change(self, name: str, change: Callable[[DeviceStatus], DeviceStatus]) -> Device:
        device = self._devices.get(name)
        if device is None:
            raise NotFound(KIND, name)
        status = change(device.status)
        if status != device.status:
            await self._statuses.write(name, status)
            device = self._devices[name] = Device(name, device.spec, status)
            self._noted(name)
        return device


def _device(record: Record) -> Device:
    return Device(record.name, decode(DeviceSpec, record.spec, "spec"), decode(DeviceStatus, record.status, "status"))
