"""One rising figure from the progress of several phases, each of which counts from 0 to 1 for itself."""

from __future__ import annotations

from collections.abc import Callable

from edge_compress.plugin import Context

_SPOKEN_FOR = 0.95
"""the rest is for what comes after the last phase"""


class Progress:
    """Phases that follow each other; what is repeated or comes late never takes the figure back. ``part``: all of them together,
    where other work comes after."""

    def __init__(self, context: Context, part: float = 1.0) -> None:
        self._context, self._part = context, part
        self._reached = 0.0

    def phase(self, share: float) -> Callable[[float, str], None]:
        """A phase that takes ``share`` of the whole, from where the figure is now."""
        first = self._reached
        return lambda done, message: self._say(first + self._part * share * min(1.0, done), message)

    def _say(self, fraction: float, message: str) -> None:
        self._reached = max(self._reached, min(_SPOKEN_FOR, fraction))
        self._context.progress(self._reached, message)
