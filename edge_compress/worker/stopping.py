"""Events that are set by what others do: what tells a running step to end, put together from several reasons."""

from __future__ import annotations

import threading
from collections.abc import Callable


class When(threading.Event):
    """Set when ``holds`` says so."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        super().__init__()
        self._holds = holds

    def is_set(self) -> bool:
        """What ``holds`` says now."""
        return self._holds()


def either(first: threading.Event | None, second: threading.Event) -> threading.Event:
    """An event that is set when either of two is."""
    return second if first is None else When(lambda: first.is_set() or second.is_set())
