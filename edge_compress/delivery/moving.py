"""Writes what becomes of a rollout, and once it is durable says so: to the log and to the plugins that listen."""

from __future__ import annotations

import logging

from edge_compress.delivery.world import StoredRollout
from edge_compress.domain.rollout import RolloutStatus
from edge_compress.domain.schema import encode
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import ResourceStore

_log = logging.getLogger(__name__)


class Mover:
    """Call it from any thread; it blocks."""

    def __init__(self, store: ResourceStore, registry: Registry) -> None:
        self._store, self._registry = store, registry

    def move(self, rollout: StoredRollout, status: RolloutStatus) -> StoredRollout:
        """Store a new status and, when the state changed, tell. Raises Conflict when somebody else was first."""
        old, name = rollout.status, rollout.record.name
        if status == old:
            return rollout
        record = self._store.set_status("Rollout", name, encode(status), expected_revision=rollout.record.revision)
        if status.state != old.state:
            _log.info("rollout %s: %s -> %s: %s", name, old.state, status.state, status.message)
            fired = {"rollout": name, "old": old.state, "new": status.state, "why": status.message}
            for error in self._registry.fire("edge_compress_rollout_moved", **fired):
                _log.warning("a plugin failed on a moved rollout: %s", error)
        return StoredRollout(record, rollout.spec, status)
