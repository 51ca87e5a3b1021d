"""How many bytes an update takes as differences to what a device has, asked by delivery, which must not wait: found out in the
background, once for each pair of files. How that is reckoned is the engine's business.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_log = logging.getLogger(__name__)
AGAIN_SECONDS = 60.0
"""after which what could not be reckoned is tried again"""


class UpdateSizes:
    """``reckon(sha256, base)`` blocks; None: one of them is gone. Call it from any thread. ``found`` is told of each answer."""

    def __init__(self, reckon: Callable[[str, str], int | None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reckon, self._clock = reckon, clock
        self.found: Callable[[], None] = lambda: None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="update-sizes")
        self._known: dict[tuple[str, str], int] = {}
        self._asked: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def __call__(self, base: str, sha256: str) -> int | None:
        """Bytes from the one file to the other; None: that is being found out, or cannot be."""
        pair = (base, sha256)
        with self._lock:
            if pair in self._known or pair in self._asked or self._clock() - self._failed.get(pair, -math.inf) < AGAIN_SECONDS:
                return self._known.get(pair)
            self._asked.add(pair)
        self._pool.submit(self._find_out, pair)
        return None

    def close(self) -> None:
        """Find out no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _find_out(self, pair: tuple[str, str]) -> None:
        base, sha256 = pair
        try:
            size = self._reckon(sha256, base)
        except Exception:  # whatever it is, a device waits for this answer
            _log.exception("the update from %s to %s could not be reckoned", base[:12], sha256[:12])
            size = None
        with self._lock:
            if size is None:
                self._failed[pair] = self._clock()
            else:
                self._known[pair] = size
            self._asked.discard(pair)
        if size is not None:
            self.found()
