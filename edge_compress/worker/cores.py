"""Hands out processor cores to child processes, so that what is measured has a core to itself.

Requests are served first come, first served: a measurement that wants every core is not starved by small steps.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator

from edge_compress.errors import Cancelled


class Cores:
    """The cores this process may use."""

    def __init__(self, available: frozenset[int] | None = None) -> None:
        self._all = available or frozenset(os.sched_getaffinity(0))
        self._free = set(self._all)
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._all)

    @contextlib.contextmanager
    def take(self, count: int, cancelled: threading.Event | None = None) -> Iterator[frozenset[int]]:
        """Hold ``count`` cores (at most all there are) for the block. Raises Cancelled while waiting when asked to stop."""
        wanted = max(1, min(count, len(self._all)))
        held = self._wait_for(wanted, cancelled)
        try:
            yield held
        finally:
            with self._changed:
                self._free |= held
                self._changed.notify_all()

    def _wait_for(self, wanted: int, cancelled: threading.Event | None) -> frozenset[int]:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or len(self._free) < wanted:
                    if cancelled is not None and cancelled.is_set():
                        raise Cancelled("cancelled while waiting for a core")
                    self._changed.wait(0.2)
                held = frozenset(sorted(self._free)[:wanted])
                self._free -= held
                return held
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
