"""What is made of all records of a kind, made anew only when one of them changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from edge_compress.errors import Conflict
from edge_compress.store.interface import Record, ResourceStore

T = TypeVar("T")


class Remembered(Generic[T]):
    """Asks the store for what changed and lists the kind only then. Blocks; callers on several threads may both do the work."""

    def __init__(self, store: ResourceStore, kind: str, make: Callable[[Iterable[Record]], T]) -> None:
        self._store, self._kind, self._make = store, kind, make
        self._seen = 0
        self._value: T | None = None

    def value(self) -> T:
        """As of now."""
        revision = self._store.revision()
        if self._value is None or self._changed():
            self._value = self._make(self._store.list(self._kind).records)
        self._seen = revision
        return self._value

    def _changed(self) -> bool:
        try:
            return bool(self._store.events([self._kind], self._seen, 1))
        except Conflict:
            return True  # too long ago to tell
