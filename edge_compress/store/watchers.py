"""Who hears of changes: listeners, called in the order of revisions from the thread that wrote them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from edge_compress.store.interface import Event

_LOG = logging.getLogger(__name__)


class Watchers:
    """A set of listeners. One that raises is logged and stays: its fault is not the writer's, nor the other listeners'."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[object, Callable[[Event], None]] = {}

    def add(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``listener`` with every event from now on; returns how to stop, which may be called twice."""
        token = object()
        with self._lock:
            self._listeners[token] = listener

        def stop() -> None:
            with self._lock:
                self._listeners.pop(token, None)

        return stop

    def publish(self, events: Sequence[Event]) -> None:
        """Tell everybody of ``events``, in order."""
        if not events:
            return
        with self._lock:
            listeners = tuple(self._listeners.values())
        for event in events:
            for listener in listeners:
                _tell(listener, event)


def _tell(listener: Callable[[Event], None], event: Event) -> None:
    try:
        listener(event)
    except Exception:
        _LOG.exception("a listener failed on revision %d", event.record.revision)
