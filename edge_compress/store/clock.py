"""The server's time: what the wall clock said when it started, and from then on what really passed.

Soaks, deadlines, penalties and what is newer than what are reckoned with stored times. A wall clock that is set while the server
runs must end no soak and time out no device, and one that was set back before it starts must not leave stored times in the
future. The price: the ages that people are shown are off by as much as the clock was set, until the next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class SteadyClock:
    """Seconds since the epoch that never jump. ``not_before``: the newest stored time, which is in the past."""

    def __init__(
        self,
        not_before: float = 0.0,
        *,
        wall: Callable[[], float] = time.time,
        passing: Callable[[], float] = time.monotonic,
    ) -> None:
        self._passing = passing
        self._began = max(wall(), not_before) - passing()

    def __call__(self) -> float:
        """Now."""
        return self._began + self._passing()
