"""Applies and removes what users declare, one at a time, so that nothing is removed while a newcomer begins to name it.

Leaves the decisions to ``references`` and how a resource travels to ``wire``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_compress.domain import spec
from edge_compress.domain.resource import Condition, ResourceStatus
from edge_compress.domain.schema import encode
from edge_compress.errors import Conflict, InUse, InvalidInput
from edge_compress.plugin.registry import Registry
from edge_compress.server import references
from edge_compress.server.history import stored
from edge_compress.store.interface import ApplyOutcome, Record, ResourceStore

_NEEDED_BY = {
    "DeviceProfile": ("Deployment", "Device"),
    "Model": ("Deployment",),
    "Recipe": ("Deployment",),
    "Artifact": ("Device", "Rollout"),
}
"""kinds that may need a resource of a kind"""


@dataclass(frozen=True)
class Terms:
    """On which terms to apply: only at this generation (0: any), or not at all but as a check, where what is named ``alongside``
    (Kind/name) counts as existing."""

    expected_generation: int = 0
    validate_only: bool = False
    alongside: frozenset[str] = frozenset()

    @classmethod
    def of(cls, request: Any) -> Terms:
        """The terms in an Apply request. Raises InvalidInput for a generation below zero."""
        if request.expected_generation < 0:
            raise InvalidInput.at("expected_generation", request.expected_generation, "a generation, or 0 for any")
        alongside = frozenset(getattr(request, "alongside", ())) if request.validate_only else frozenset()
        return cls(request.expected_generation, request.validate_only, alongside)


class Declarations:
    """The one door through which declared resources change."""

    def __init__(self, store: ResourceStore, registry: Registry, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    def check(self, resource: spec.Resource) -> None:
        """Refuse what can be refused without reading the store. Raises InvalidSpec."""
        references.check_plugins(resource, self._registry)

    async def apply(self, resource: spec.Resource, terms: Terms) -> tuple[Record, ApplyOutcome]:
        """Store a resource, or only say what storing it would do. Raises InvalidSpec, MissingReference, Conflict."""
        self.check(resource)
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._apply, resource, terms)

    async def delete(self, kind: str, name: str) -> None:
        """Remove a resource that nobody needs. Raises NotFound, InUse."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._delete, kind, name)

    def _apply(self, resource: spec.Resource, terms: Terms) -> tuple[Record, ApplyOutcome]:
        if isinstance(resource, spec.Deployment):
            references.check_named(resource, lambda kind, name: f"{kind}/{name}" in terms.alongside or self._exists(kind, name))
        if terms.validate_only:
            return preview(self._store, resource, terms.expected_generation)
        record, outcome = self._store.apply(
            type(resource).__name__,
            resource.name,
            labels=resource.metadata.labels,
            spec=encode(resource.spec),
            expected_generation=terms.expected_generation or None,
        )
        return self._observed(record), outcome

    def _observed(self, record: Record) -> Record:
        """The record with its acceptance noted. What a deployment leads to is noted by delivery instead."""
        if record.kind == "Deployment" or record.status.get("observed_generation") == record.generation:
            return record
        accepted = Condition("Accepted", "True", "Valid", "checked and stored", self._clock())
        status: Any = encode(ResourceStatus(record.generation, (accepted,)))
        return self._store.set_status(record.kind, record.name, status)

    def _delete(self, kind: str, name: str) -> None:
        self._store.get(kind, name)
        others = {other: self._all(other) for other in _NEEDED_BY.get(kind, ())}
        needing = references.users(kind, name, others)
        if needing:
            raise InUse(kind, name, needing)
        self._store.delete(kind, name)

    def _all(self, kind: str) -> Sequence[Record]:
        return self._store.list(kind).records

    def _exists(self, kind: str, name: str) -> bool:
        return stored(self._store, kind, name) is not None


def preview(store: ResourceStore, resource: spec.Resource, expected_generation: int = 0) -> tuple[Record, ApplyOutcome]:
    """What applying ``resource`` would yield; changes nothing. Raises Conflict when ``expected_generation`` is stale."""
    kind, plain = type(resource).__name__, encode(resource.spec)
    labels = dict(resource.metadata.labels)
    old = stored(store, kind, resource.name)
    if expected_generation and (old.generation if old else 0) != expected_generation:
        have = f"has generation {old.generation}" if old else "does not exist"
        raise Conflict(f"{kind} {resource.name!r} {have}, expected {expected_generation}; read it again and retry")
    if old is None:
        return Record(kind, resource.name, "", labels, plain, {}, 1, 0, 0.0, 0.0), ApplyOutcome.CREATED
    same_spec = dict(old.spec) == plain
    outcome = ApplyOutcome.UNCHANGED if same_spec and dict(old.labels) == labels else ApplyOutcome.CONFIGURED
    generation = old.generation + (0 if same_spec else 1)
    new = Record(kind, old.name, old.uid, labels, plain, old.status, generation, old.revision, old.created_at, old.updated_at)
    return new, outcome
