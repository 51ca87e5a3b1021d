"""What a store promises. ``tests/contract`` holds every implementation to it.

All methods are synchronous and safe from any thread; async callers use ``asyncio.to_thread``. A method that returns has
made its change durable: a ``kill -9`` right after it loses nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Change(enum.StrEnum):
    """What happened to a record."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class ApplyOutcome(enum.StrEnum):
    """What an apply did."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Record:
    """One stored resource. ``spec`` and ``status`` are JSON-ready mappings. ``generation`` rises with the spec, ``revision``
    with every change of anything in the store (one sequence for all)."""

    kind: str
    name: str
    uid: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    generation: int
    revision: int
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class Event:
    """One change, in the order of ``revision``. For DELETED the record is as it last was, with the deletion's revision."""

    change: Change
    record: Record


@dataclass(frozen=True)
class Page:
    """Records ordered by name; ``next_token`` is empty on the last page."""

    records: tuple[Record, ...]
    next_token: str = ""


@dataclass(frozen=True)
class UsageKey:
    """Whose running totals: one boot of one device with one artifact."""

    device: str
    boot_id: str
    profile: str
    model: str
    version: str
    cohort: str = ""


@dataclass(frozen=True)
class UsageTotals:
    """Running totals of a boot. ``energy`` maps (source, scope) written ``source/scope`` to joules."""

    inferences: Mapping[str, int] = field(default_factory=dict)
    bucket_bounds: tuple[float, ...] = ()
    bucket_counts: tuple[int, ...] = ()
    duration_sum: float = 0.0
    energy: Mapping[str, float] = field(default_factory=dict)
    folded: tuple[str, ...] = ()
    """boots whose totals were added into this row, newest last, so that a late repeat of theirs is not counted again"""
    peak_memory_bytes: int | None = None
    """largest that any boot measured when the artifact was tried"""


class ResourceStore(Protocol):
    """Resources by (kind, name), with watches."""

    def apply(
        self,
        kind: str,
        name: str,
        *,
        labels: Mapping[str, str],
        spec: Mapping[str, Any],
        status: Mapping[str, Any] | None = None,
        expected_generation: int | None = None,
    ) -> tuple[Record, ApplyOutcome]:
        """Create or replace the spec and labels. MUST change nothing, not even the revision, when both are equal already.

        ``status`` is set on creation only. MUST raise Conflict when ``expected_generation`` is given and is not the stored one.
        """

    def set_status(self, kind: str, name: str, status: Mapping[str, Any], *, expected_revision: int | None = None) -> Record:
        """Replace the status. MUST keep spec and generation; MUST change nothing when equal; raises NotFound, and Conflict
        when ``expected_revision`` is stale."""

    def set_statuses(self, kind: str, statuses: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
        """Replace the status of each record named, all in one transaction: after a ``kill -9`` either all are replaced or none.
        Returns the names that are not there, which stop nothing. MUST change nothing of those that are equal."""

    def get(self, kind: str, name: str) -> Record:
        """Raises NotFound."""

    def list(self, kind: str, *, page_size: int = 0, page_token: str = "", labels: Mapping[str, str] | None = None) -> Page:
        """Records by name; ``page_size`` 0 means all. MUST not skip or repeat a record that exists throughout the paging.
        Raises InvalidSpec for a token that is not one."""

    def delete(self, kind: str, name: str) -> Record:
        """Remove and return it as it last was. Raises NotFound."""

    def events(self, kinds: Iterable[str], since: int, limit: int = 1000) -> Sequence[Event]:
        """Changes with a revision above ``since``, in order. Raises Conflict when some were already dropped (list again)."""

    def revision(self) -> int:
        """The newest revision."""

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``listener`` after each durable change, from the writing thread, in order; returns how to stop. A listener MUST
        not block and MUST not call the store."""


class StepCache(Protocol):
    """Results of finished steps by content key."""

    def step(self, key: str) -> Mapping[str, Any] | None:
        """The stored result, or None."""

    def put_step(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep a result. The first one wins: a step is deterministic by its key. MUST overwrite nothing."""


class NoteStore(Protocol):
    """What parts of the server keep for themselves and overwrite often; nobody watches it, and nothing older is kept."""

    def note(self, key: str) -> Mapping[str, Any] | None:
        """The stored value, or None."""

    def put_note(self, key: str, value: Mapping[str, Any] | None) -> None:
        """Replace a value; None removes it. MUST change no revision."""


class UsageStore(Protocol):
    """What devices report, as running totals, so that duplicates and reordering never double count."""

    def put_usage(self, totals: Sequence[tuple[UsageKey, UsageTotals]]) -> None:
        """Keep the largest totals seen for each key (inferences in all decide; the later one where they are equal). One
        transaction."""

    def fold_usage(self, kept: Sequence[tuple[UsageKey, UsageTotals]], dropped: Sequence[UsageKey]) -> None:
        """Write the ``kept`` rows as they are, replacing what was there, and remove the ``dropped`` ones, all in one transaction:
        after a ``kill -9`` either both or neither happened. No error for a dropped key that is not there."""

    def usage(self) -> Iterator[tuple[UsageKey, UsageTotals]]:
        """Everything kept; read at the start."""


class BlobStore(Protocol):
    """Immutable files named by the sha256 of their bytes."""

    def has(self, sha256: str) -> bool:
        """Whether the whole blob is here."""

    def size(self, sha256: str) -> int:
        """Bytes. Raises NotFound."""

    def path(self, sha256: str) -> Path:
        """Where its bytes lie, for reading only. MUST have been verified against the digest since this process started or since
        it was written by it, whichever is later; raises Corrupt when the bytes changed (and sets the file aside), NotFound."""

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes; returns their digest. MUST be atomic and fsynced. Raises StorageFull, leaving nothing half-written."""

    def put_file(self, path: Path) -> str:
        """Keep a copy of a file; returns its digest. As ``put_bytes``."""

    def partial(self, sha256: str) -> int:
        """Bytes of an unfinished upload that are safely kept; 0 when there is none."""

    def append(self, sha256: str, offset: int, data: bytes) -> int:
        """Add to an unfinished upload; returns the new offset. ``offset`` MUST equal ``partial``; raises InvalidInput. Raises
        StorageFull, keeping what was there. Must survive kill -9 up to the last ``sync_partial``."""

    def sync_partial(self, sha256: str) -> None:
        """Make what was appended durable."""

    def commit(self, sha256: str) -> None:
        """Turn the finished upload into a blob. Verifies the digest; raises Corrupt and drops the upload when it differs."""

    def discard(self, sha256: str) -> None:
        """Remove a blob and any unfinished upload of it. No error when there is none."""

    def digests(self) -> Iterator[str]:
        """Every complete blob."""

    def unfinished(self) -> Iterator[tuple[str, float]]:
        """Every unfinished upload with the time something was last added to it, seconds since the epoch."""


class Store(ResourceStore, StepCache, NoteStore, UsageStore, Protocol):
    """One database with everything but the blobs, and the blobs beside it."""

    blobs: BlobStore
    clock: Callable[[], float]
    """seconds since the epoch; what records are stamped with. MUST NOT jump, nor begin before the newest stored time: whatever is
    compared with stored times must come from it"""

    def close(self) -> None:
        """Finish the writes that were begun and let go of the files."""
