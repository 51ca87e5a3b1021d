"""Reading resources of one kind: get, list by pages, watch. Every servicer answers these the same way through here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from edge_compress import wire
from edge_compress.api.v1 import common_pb2
from edge_compress.errors import InvalidInput
from edge_compress.server.feed import Feed
from edge_compress.store.interface import ResourceStore

_PAGE = 100
_LARGEST_PAGE = 1000


class Reader:
    """Answers about the resources of one kind, in the kind's messages."""

    def __init__(self, store: ResourceStore, feed: Feed, kind: str) -> None:
        self._store = store
        self._feed = feed
        self._kind = kind

    async def get(self, request: common_pb2.GetRequest) -> Any:
        """The resource's message. Raises InvalidInput without a name, NotFound."""
        name = required(request.name, "name")
        return wire.record_to_wire(await asyncio.to_thread(self._store.get, self._kind, name))

    async def list(self, request: common_pb2.ListRequest) -> tuple[list[Any], str]:
        """Messages of one page, and the next page's token. Raises InvalidInput for a size or a token that is none."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidInput.at("page_size", request.page_size, f"1 to {_LARGEST_PAGE}, or 0 for {_PAGE}")
        page = await asyncio.to_thread(
            self._store.list,
            self._kind,
            page_size=request.page_size or _PAGE,
            page_token=request.page_token,
            labels=dict(request.labels) or None,
        )
        return [wire.record_to_wire(record) for record in page.records], page.next_token

    async def watch(self, request: common_pb2.WatchRequest) -> AsyncIterator[tuple[Any, Any]]:
        """Pairs of (change on the wire, the resource's message) as they happen. Raises StaleWatch."""
        async for event in self._feed.watch(self._kind, since=request.since_revision, name=request.name):
            yield wire.change_to_wire(event.change.value), wire.record_to_wire(event.record)


def required(text: str, field: str) -> str:
    """``text`` when it is there. Raises InvalidInput naming ``field``."""
    if not text:
        raise InvalidInput.at(field, text, "a name", "it is required")
    return text
