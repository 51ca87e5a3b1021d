"""How long to wait before trying again: exponential ceilings with full jitter, so that a fleet does not come back all at once."""

from __future__ import annotations

import random

FIRST_SECONDS, MOST_SECONDS = 0.5, 30.0


class Backoff:
    """Delays in seconds, each drawn evenly between 0 and a ceiling that doubles from ``first`` to ``most``."""

    def __init__(self, chance: random.Random, first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> None:
        self._chance, self._first, self._most = chance, first, most
        self._tries = 0

    def next(self) -> float:
        """The delay before the next try."""
        ceiling = min(self._most, self._first * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return self._chance.uniform(0.0, ceiling)

    def reset(self) -> None:
        """A try went well: the next failure starts over."""
        self._tries = 0
