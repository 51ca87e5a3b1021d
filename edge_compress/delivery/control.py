"""Carries out what people tell a rollout to do. What a command leads to is decided in ``domain.command``; what follows from
that is the reconciler's work, which sees the new status like any other change.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_compress.delivery.moving import Mover
from edge_compress.delivery.world import StoredRollout, stored_rollout
from edge_compress.domain.command import Command, commanded
from edge_compress.domain.schema import decode
from edge_compress.domain.spec import DeploymentSpec
from edge_compress.errors import Conflict, NotFound
from edge_compress.store.interface import Record, ResourceStore

_ATTEMPTS = 10
"""the reconciler may write the same rollout at the same time"""


class RolloutControl:
    """Call it from any thread; it blocks."""

    def __init__(self, store: ResourceStore, mover: Mover, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._mover, self._clock = store, mover, clock

    def command(self, name: str, command: Command, reason: str = "", step: int | None = None) -> Record:
        """Do it to the rollout ``name``, or to the newest one of the deployment ``name``. Raises NotFound, and Conflict where the
        rollout is in no state for it."""
        for attempt in range(_ATTEMPTS):
            rollout = self._rollout(name)
            policy = decode(DeploymentSpec, self._store.get("Deployment", rollout.spec.deployment).spec, "spec").rollout
            try:
                new = commanded(command, policy, rollout.spec, rollout.status, self._clock(), reason, step)
            except Conflict as error:
                raise Conflict(f"rollout {rollout.record.name}: {error}") from None
            try:
                return self._mover.move(rollout, new).record
            except Conflict:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError

    def _rollout(self, name: str) -> StoredRollout:
        try:
            record = self._store.get("Rollout", name)
        except NotFound:
            try:
                deployment = self._store.get("Deployment", name)
                record = self._store.get("Rollout", f"{name}-{deployment.generation}")
            except NotFound:
                raise NotFound("Rollout", name) from None
        return stored_rollout(record)
