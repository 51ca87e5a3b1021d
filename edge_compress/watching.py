"""Watches as a client needs them: without end, over restarts of the server, each change told at most once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge_compress.calls import Calls
from edge_compress.domain.resource import Change, Stored
from edge_compress.errors import Conflict, Unavailable

Follow = Callable[[int, float], Iterator[Change]]
"""changes after a revision (0: all there is, as ADDED, first), for at most so many seconds"""
_ONE_CALL_SECONDS = 3600.0
_STEADY_SECONDS = 5.0
"""a stream that lived this long was a good one: what breaks it is a new trouble"""


@dataclass
class Watch:
    """One watch. ``names`` lists what exists now, for catching up on deletions after changes were lost."""

    calls: Calls
    follow: Follow
    names: Callable[[], set[str]]
    known: dict[str, Stored] = field(default_factory=dict)

    def changes(self, since: int, seconds: float | None) -> Iterator[Change]:
        """Changes after revision ``since``; ends after ``seconds``. Raises Unavailable when the server stays away."""
        end = None if seconds is None else time.monotonic() + seconds
        backoff = self.calls.backoff(time.monotonic() + self.calls.timeout)
        while end is None or time.monotonic() < end:
            began, told = time.monotonic(), 0
            try:
                for change in self.follow(since, _ONE_CALL_SECONDS if end is None else max(0.001, end - began)):
                    since, told = max(since, change.resource.metadata.revision), told + 1
                    if self._is_news(change):
                        yield change
            except Conflict:
                yield from self._deletions()
                since = 0
            except Unavailable:
                steady = self.calls.reached and (told or time.monotonic() - began > _STEADY_SECONDS)
                if steady:
                    backoff = self.calls.backoff(time.monotonic() + self.calls.timeout)
                over = end is not None and time.monotonic() >= end
                if not over and not backoff.wait():
                    raise

    def _is_news(self, change: Change) -> bool:
        """Whether a change was not told yet; remembers it."""
        name, before = change.resource.name, self.known.get(change.resource.name)
        if change.type == "DELETED":
            self.known.pop(name, None)
            return True
        self.known[name] = change.resource
        return before is None or before.metadata.revision < change.resource.metadata.revision

    def _deletions(self) -> Iterator[Change]:
        """What was known and is gone; the rest comes with the next stream from 0."""
        for gone in sorted(self.known.keys() - self.names()):
            yield Change("DELETED", self.known.pop(gone))
