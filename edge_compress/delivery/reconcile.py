"""Makes what is there into what is declared, again and again: deployments become jobs, finished jobs become rollouts, rollouts
become assignments. Level-triggered: each pass looks only at what is stored, so that a restart goes on from any point.

Everything is durable before it has an effect. What should be is decided in ``demand`` and ``rollouts``; running jobs is left to
the job queue, reaching devices to ``fleet``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_compress.delivery.conditions import (
    COMPRESSED,
    DRIFTED,
    PROFILE_DRIFT,
    ROLLED_OUT,
    drifted,
    goals_missed,
    rolled_out,
    with_conditions,
)
from edge_compress.delivery.demand import (
    AskKey,
    Keys,
    Need,
    Progress,
    artifacts_of,
    ladders_of,
    must_be_redone,
    needs_of,
    progress_of,
    replanned,
    with_previous,
)
from edge_compress.delivery.devices import Device
from edge_compress.delivery.drifting import drift_of
from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.gatekeeper import Gatekeeper
from edge_compress.delivery.links import UpdateSizes, no_sizes
from edge_compress.delivery.misses import Misses
from edge_compress.delivery.moving import Mover
from edge_compress.delivery.rollouts import (
    Reach,
    Wanted,
    claims,
    going_back,
    members_of,
    next_step,
    rollout_of,
    superseded,
    wanted_rollout,
)
from edge_compress.delivery.world import ADOPTION, StoredDeployment, StoredRollout, World, read_world
from edge_compress.domain.calibration import Corrections
from edge_compress.domain.job import JobStatus
from edge_compress.domain.miss import Miss
from edge_compress.domain.rollout import PENALISED, RolloutState, RolloutStatus
from edge_compress.domain.schema import decode, encode
from edge_compress.domain.session import Assignment
from edge_compress.domain.spec import STANDS_IN_FOR
from edge_compress.errors import Conflict, EdgeCompressError
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Event, ResourceStore

_log = logging.getLogger(__name__)
_WATCHED = frozenset({"Deployment", "DeviceProfile", "Model", "Recipe", "Job", "Artifact", "Rollout", "Calibration"})


@dataclass(frozen=True)
class ReconcileSettings:
    """When to look again. Seconds."""

    tick_seconds: float = 1.0
    """while a rollout is under way, for deadlines and soaking"""
    retry_seconds: float = 5.0
    """after something could not be written"""
    rest_seconds: float = 0.05
    """least pause between two passes, and at least as long as the last one took"""


class Reconciler:
    """``key`` is asked in a thread for the digest of each pair, ``sizes`` for those of updates; ``registry`` hears of rollouts
    that moved."""

    def __init__(
        self,
        store: ResourceStore,
        fleet: Fleet,
        registry: Registry,
        key: AskKey,
        settings: ReconcileSettings = ReconcileSettings(),
        *,
        sizes: UpdateSizes = no_sizes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sizes, self._runtimes = sizes, frozenset(registry.targets)
        self._store, self._fleet, self._settings, self._clock = store, fleet, settings, clock
        self._keys, self._mover, self._gatekeeper = Keys(key), Mover(store, registry), Gatekeeper(fleet.usage_rows, registry)
        self._misses = Misses(store, {name: strategy.requires.precision for name, strategy in registry.strategies.items()})
        self._began = clock()
        self._wake = asyncio.Event()
        self._under_way = False
        self._troubled = False

    async def run(self) -> None:
        """Reconcile whenever something changed, until cancelled. What fails is logged and tried again."""
        loop = asyncio.get_running_loop()

        def heard(event: Event) -> None:
            if event.record.kind in _WATCHED and not loop.is_closed():
                loop.call_soon_threadsafe(self._wake.set)

        unsubscribe = self._store.subscribe(heard)
        self._fleet.changed = self._wake.set
        try:
            while True:
                began = time.monotonic()
                await self._pass()
                await asyncio.sleep(max(self._settings.rest_seconds, time.monotonic() - began))
                await self._woken()
        finally:
            unsubscribe()

    async def reconcile(self) -> None:
        """One pass. Raises what reading the store raises; what cannot be written is tried again on the next."""
        wanted, drift = await asyncio.to_thread(self._decide)
        await self._fleet.note_drift(drift)
        await self._fleet.desire(wanted)

    async def _pass(self) -> None:
        try:
            await self.reconcile()
        except EdgeCompressError as error:
            self._troubled = True
            _log.warning("reconciling failed, will try again: %s", error)
        except Exception:
            self._troubled = True
            _log.exception("reconciling broke, will try again")

    async def _woken(self) -> None:
        timeouts = [self._settings.tick_seconds] if self._under_way else []
        timeouts += [self._settings.retry_seconds] if self._troubled else []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeouts, default=None)):
                await self._wake.wait()
        self._wake.clear()

    def _decide(self) -> tuple[Mapping[str, Assignment], tuple[Device, ...]]:
        """Store what follows from what is stored; returns what each device should run, and the devices with their drift."""
        self._troubled = False
        world, devices = self._with_drift(read_world(self._store))
        self._forget_adoptions(world)
        needs = {one.value.name: needs_of(world, one, self._keys) for one in world.deployments}
        misses = {one.value.name: self._missed(world, one, needs) for one in world.deployments}
        for deployment in world.deployments:
            with self._guard(deployment.value.name):
                self._make_jobs(world, deployment, needs[deployment.value.name])
        world = self._with_rollouts(world, needs)
        wanted, statuses = self._advance(world, devices)
        for deployment in world.deployments:
            with self._guard(deployment.value.name):
                said = {
                    COMPRESSED: progress_of(world, needs[deployment.value.name]),
                    ROLLED_OUT: rolled_out(statuses.get(deployment.rollout)),
                }
                drift = drifted(deployment, devices)
                missed = misses[deployment.value.name]
                late = None if missed is None else goals_missed(deployment, missed)
                more = {kind: words for kind, words in ((PROFILE_DRIFT, drift), (DRIFTED, late)) if words is not None}
                self._tell(deployment, said | more)
        self._under_way = any(_needs_the_clock(status) for status in statuses.values())
        return wanted, devices

    def _missed(self, world: World, deployment: StoredDeployment, needs: dict[str, list[Need]]) -> Mapping[str, Miss] | None:
        """What its classes miss; None: not known now. Where the deployment asks for it, ``needs`` follow."""
        name, found = deployment.value.name, None
        with self._guard(name):
            found = self._misses.of(world, deployment, needs[name])
            better = {profile for profile, miss in (found or {}).items() if miss.better}
            if deployment.value.spec.rollout.on_drift == "automatic" and better:
                needs[name] = [
                    replanned(world, deployment, need, self._keys) if need.profile in better else need for need in needs[name]
                ]
        return found

    def _forget_adoptions(self, world: World) -> None:
        """Remove those of deployments that are gone."""
        uids = {one.record.uid for one in world.deployments}
        for name in world.adopted:
            if name.split(".", 1)[0] not in uids:
                self._store.delete(ADOPTION, name)

    def _with_drift(self, world: World) -> tuple[World, tuple[Device, ...]]:
        """The devices as they are, and the world with the profiles that are true of those that contradict theirs."""
        drift = drift_of(world, self._fleet.devices(), self._runtimes)
        missing = {name: made for name, made in drift.needed.items() if name not in world.profiles}
        for name, (profile, spec) in missing.items():
            _log.warning("ProfileDrift: some devices contradict profile %s; what they get is made for %s", profile, name)
            self._store.apply("DeviceProfile", name, labels={STANDS_IN_FOR: profile}, spec=encode(spec))
        for name in drift.stale:
            self._store.delete("DeviceProfile", name)
        return (read_world(self._store) if missing or drift.stale else world), drift.devices

    def _make_jobs(self, world: World, deployment: StoredDeployment, needs: Sequence[Need]) -> None:
        for need in needs:
            again = must_be_redone(world, need)
            if again:
                self._store.delete("Job", need.job)
            if need.spec is not None and (again or need.job not in world.jobs):
                labels = {"model": need.spec.model, "profile": need.profile, "deployment": need.spec.deployment}
                spec = with_previous(world, need.spec, deployment)
                # The adoption first: a job of which nobody knows that it was made with corrections would be made again without.
                if spec.corrections != world.adopted.get(need.adoption, Corrections()):
                    self._store.apply(ADOPTION, need.adoption, labels=labels, spec=encode(spec.corrections))
                self._store.apply("Job", need.job, labels=labels, spec=encode(spec), status=encode(JobStatus()))

    def _with_rollouts(self, world: World, needs: Mapping[str, Sequence[Need]]) -> World:
        """The world with the rollouts that there should be, and those superseded that are over."""
        rollouts = dict(world.rollouts)
        for deployment in world.deployments:
            with self._guard(deployment.value.name):
                old = world.rollouts.get(deployment.rollout)
                artifacts = artifacts_of(world, needs[deployment.value.name])
                ladders = ladders_of(world, needs[deployment.value.name], artifacts)
                wanted = wanted_rollout(deployment, artifacts, old, world.rollouts.values(), ladders)
                if wanted is not None:
                    rollouts[wanted.name] = self._store_rollout(wanted, old)
        for rollout, status in superseded(replace(world, rollouts=rollouts)):
            with self._guard(rollout.record.name):
                rollouts[rollout.record.name] = self._mover.move(rollout, status)
        return replace(world, rollouts=rollouts)

    def _store_rollout(self, wanted: Wanted, old: StoredRollout | None) -> StoredRollout:
        # The status first: had we died in between, a finished rollout would expose all devices to what it never tried.
        if old is not None and wanted.fresh:
            self._store.set_status("Rollout", wanted.name, encode(RolloutStatus()), expected_revision=old.record.revision)
        record, _ = self._store.apply(
            "Rollout", wanted.name, labels=wanted.labels, spec=encode(wanted.spec), status=encode(RolloutStatus())
        )
        return StoredRollout(record, wanted.spec, decode(RolloutStatus, record.status))

    def _advance(self, world: World, devices: Sequence[Device]) -> tuple[dict[str, Assignment], dict[str, RolloutStatus]]:
        """Move each current rollout on; returns what each device should run, and each rollout's status."""
        claimed = claims(world, devices)
        wanted: dict[str, Assignment] = {}
        statuses: dict[str, RolloutStatus] = {}
        for deployment in world.deployments:
            rollout, policy = world.rollouts.get(deployment.rollout), deployment.value.spec.rollout
            reach = Reach(self._fleet.live, self._began, policy, self._sizes)
            if rollout is None:
                given_up = rollout_of(deployment, world)
                if given_up is not None:
                    wanted.update(going_back(given_up, world, claimed.get(given_up.record.name, ()), reach))
                continue
            statuses[deployment.rollout] = rollout.status
            with self._guard(deployment.rollout):
                mine = claimed.get(deployment.rollout, ())
                now = self._clock()
                members = members_of(rollout, world, mine, reach, now)
                gates = self._gatekeeper.findings(rollout, policy, members, mine)
                away = len(mine) - len(members)
                step = next_step(deployment, rollout, members, now, unreachable=away, gates=gates)
                moved = self._mover.move(rollout, step.status)
                statuses[deployment.rollout] = moved.status
                wanted.update(step.assignments)
                wanted.update(going_back(moved, world, mine, reach))
        return wanted, statuses

    def _tell(self, deployment: StoredDeployment, said: Mapping[str, Progress]) -> None:
        told = with_conditions(deployment, said, self._clock())
        if told != deployment.status:
            name, revision = deployment.value.name, deployment.record.revision
            self._store.set_status("Deployment", name, encode(told), expected_revision=revision)

    @contextlib.contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """Keep the trouble of one thing from the others, and have it tried again."""
        try:
            yield
        except EdgeCompressError as error:
            self._troubled = True
            level = logging.DEBUG if isinstance(error, Conflict) else logging.WARNING
            _log.log(level, "%s could not be reconciled, will try again: %s", what, error)


def _needs_the_clock(status: RolloutStatus) -> bool:
    """Whether time alone may change what should be: a soak, a deadline, or the end of a penalty."""
    return status.state in (RolloutState.PROGRESSING, RolloutState.PAUSED) or PENALISED in status.devices
