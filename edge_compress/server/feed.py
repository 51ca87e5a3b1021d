"""Follows the store's changes for watch streams: what exists first, then each change once and in order.

The store calls back from its writing thread; the feed carries events over to the event loop and into one bounded box per
stream. A reader that falls too far behind is told to start over rather than kept in memory. Leaves to ``resources`` what a
change looks like on the wire.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from edge_compress.errors import Conflict
from edge_compress.server.refusals import StaleWatch
from edge_compress.store.interface import Change, Event, ResourceStore

_BATCH = 500


@dataclass(eq=False)
class _Box:
    """Events that one stream has not read yet."""

    kind: str
    name: str
    limit: int
    events: deque[Event] = field(default_factory=deque)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    overflowed: bool = False

    def put(self, event: Event) -> None:
        if event.record.kind != self.kind or self.name not in ("", event.record.name):
            return
        if len(self.events) >= self.limit:
            self.events.clear()
            self.overflowed = True
        elif not self.overflowed:
            self.events.append(event)
        self.filled.set()

    async def take(self) -> Event:
        while not self.events:
            if self.overflowed:
                raise StaleWatch("this watch fell too far behind; list again and watch from there")
            self.filled.clear()
            await self.filled.wait()
        return self.events.popleft()


class Feed:
    """Watches over a store. ``limit`` bounds the events that wait for one reader."""

    def __init__(self, store: ResourceStore, *, limit: int = 10_000) -> None:
        self._store = store
        self._limit = limit
        self._boxes: set[_Box] = set()
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to listen; call on the event loop that the streams run on."""
        loop = asyncio.get_running_loop()

        def heard(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._fan_out, event)

        self._unsubscribe = self._store.subscribe(heard)

    def close(self) -> None:
        """Stop listening."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    async def watch(self, kind: str, *, since: int = 0, name: str = "") -> AsyncIterator[Event]:
        """Changes of ``kind`` after revision ``since``; 0: what exists as ADDED first. Raises StaleWatch when some are lost."""
        box = _Box(kind, name, self._limit)
        self._boxes.add(box)
        try:
            sent: dict[str, int] = {}
            begin = self._missed(kind, name, since) if since else self._existing(kind, name)
            async for event in begin:
                sent[event.record.name] = event.record.revision
                yield event
            # What was listed may also wait in the box, which began to fill before the list was read.
            while True:
                event = await box.take()
                if event.record.revision > sent.get(event.record.name, since):
                    yield event
        finally:
            self._boxes.discard(box)

    async def _existing(self, kind: str, name: str) -> AsyncIterator[Event]:
        token = ""
        while True:
            page = await asyncio.to_thread(self._store.list, kind, page_size=_BATCH, page_token=token)
            for record in page.records:
                if name in ("", record.name):
                    yield Event(Change.ADDED, record)
            token = page.next_token
            if not token:
                return

    async def _missed(self, kind: str, name: str, since: int) -> AsyncIterator[Event]:
        await self._check_known(since)
        while True:
            events = await self._events(kind, since)
            for event in events:
                if name in ("", event.record.name):
                    yield event
            if len(events) < _BATCH:
                return
            since = events[-1].record.revision

    async def _check_known(self, since: int) -> None:
        """Refuse a revision from the future: it is another store's, and waiting for it would be silence for ever."""
        newest = await asyncio.to_thread(self._store.revision)
        if since < 0 or since > newest:
            raise StaleWatch(f"since_revision {since} is not one of this server's (newest {newest}); list again")

    async def _events(self, kind: str, since: int) -> list[Event]:
        try:
            return list(await asyncio.to_thread(self._store.events, [kind], since, _BATCH))
        except Conflict as error:
            raise StaleWatch(f"since_revision {since} is too old; list again and watch from there") from error

    def _fan_out(self, event: Event) -> None:
        for box in self._boxes:
            box.put(event)
