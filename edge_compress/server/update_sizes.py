"""How many bytes an update takes as differences to what a device has: found out once for each pair of files, in the background.

Asked by delivery for metered links and by previews. How differences are made is ``encoding``'s business.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edge_compress.encoding import update_bytes
from edge_compress.errors import EdgeCompressError
from edge_compress.store.interface import Store

_log = logging.getLogger(__name__)


class UpdateSizes:
    """Keeps what it found out in the store. Call it from any thread. ``found`` is told whenever something was."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.found: Callable[[], None] = lambda: None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="update-sizes")
        self._known: dict[tuple[str, str], int] = {}
        self._asked: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def __call__(self, base: str, sha256: str) -> int | None:
        """Bytes from the one file to the other; None: that is being found out, or cannot be, for one of them is gone."""
        pair = (base, sha256)
        with self._lock:
            if pair in self._known or pair in self._asked:
                return self._known.get(pair)
            self._asked.add(pair)
        self._pool.submit(self._find_out, pair)
        return None

    def now(self, base: str, sha256: str) -> int | None:
        """The same, but waits for it; None: one of them is gone."""
        try:
            return self._size((base, sha256))
        except (EdgeCompressError, OSError, EOFError):
            return None

    def close(self) -> None:
        """Find out no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _find_out(self, pair: tuple[str, str]) -> None:
        try:
            self._size(pair)
        except (EdgeCompressError, OSError, EOFError) as error:
            _log.info("the update from %s to %s cannot be made as differences: %s", pair[0][:12], pair[1][:12], error)
            return
        self.found()

    def _size(self, pair: tuple[str, str]) -> int:
        key = f"update/{pair[0]}/{pair[1]}"
        kept = self._store.step(key)
        if kept is None:
            blobs = self._store.blobs
            kept = {"bytes": update_bytes(blobs.path(pair[1]), blobs.path(pair[0]))}
            self._store.put_step(key, kept)
        with self._lock:
            self._known[pair] = int(kept["bytes"])
        return self._known[pair]
