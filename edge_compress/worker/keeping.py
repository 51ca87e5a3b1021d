"""What strategies want to be kept between their steps, such as sensitivities: small files in the store, by what they depend on.

A step's child is given those that are there and leaves new ones in its scratch folder. What is kept saves time and decides
nothing: it may be swept away at any moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from edge_compress.store.interface import Store

KEPT = "kept"
"""folder of a step's scratch space with what it wants to be kept"""
_MOST_LOTS = 32
"""steps that leave something on one shelf"""
_MOST_FILES = 64
_MOST_BYTES = 256 * 2**20
"""of one step; a larger file, or one more, is not kept"""


class Keeper:
    """See the module. ``shelf``: digest of what everything kept together depends on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()

    def lend(self, shelf: str) -> dict[str, str]:
        """Name -> path of each file that is there."""
        blobs = self._store.blobs
        lots = self._lots(shelf)
        return {name: str(blobs.path(sha256)) for lot in lots for name, sha256 in lot.items() if blobs.has(sha256)}

    def take(self, shelf: str, scratch: Path) -> None:
        """Keep what a finished step left. A shelf takes so many lots, which it never changes, as the store asks for."""
        with self._lock:
            free = len(self._lots(shelf))
            fresh = {path.name: self._store.blobs.put_file(path) for path in _left(scratch / KEPT)}
            if fresh and free < _MOST_LOTS:
                self._store.put_step(_key(shelf, free), {"files": fresh})

    def _lots(self, shelf: str) -> list[dict[str, str]]:
        lots = []
        for number in range(_MOST_LOTS):
            value = self._store.step(_key(shelf, number))
            if value is None:
                break
            lots.append(dict(value["files"]))
        return lots


def _key(shelf: str, number: int) -> str:
    return f"kept/{shelf}/{number}"


def _left(folder: Path) -> Iterator[Path]:
    room = _MOST_BYTES
    for path in sorted(folder.glob("*"))[:_MOST_FILES]:
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= room:
            room -= path.stat().st_size
            yield path
