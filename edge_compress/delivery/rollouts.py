"""Which rollouts there should be, which devices belong to each, and what the next status of each is. Pure.

``domain.rollout`` decides the next status; this gives it real members. Writing is left to ``reconcile``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_compress.delivery.assignments import assignment_for, standing
from edge_compress.delivery.devices import Device
from edge_compress.delivery.links import Links, UpdateSizes, no_sizes
from edge_compress.delivery.penalty import penalty_until
from edge_compress.delivery.world import StoredDeployment, StoredRollout, World
from edge_compress.domain.fleet import DeviceState, DeviceStatus
from edge_compress.domain.gates import Finding
from edge_compress.domain.rollout import Ladder, Member, RolloutSpec, RolloutState, RolloutStatus, check_move, decide
from edge_compress.domain.session import Assignment
from edge_compress.domain.spec import Link, RolloutPolicy

UID_LABEL = "deployment-uid"
"""tells a rollout of a deployment from one of another deployment that had the same name before"""


@dataclass(frozen=True)
class Wanted:
    """A rollout as it should be stored. ``fresh``: it starts over, because what it delivers is no longer the same."""

    name: str
    labels: Mapping[str, str]
    spec: RolloutSpec
    fresh: bool


@dataclass(frozen=True)
class Step:
    """What a rollout does next: its new status, and what each device that it may reach should run."""

    status: RolloutStatus
    assignments: Mapping[str, Assignment]


def wanted_rollout(
    deployment: StoredDeployment,
    artifacts: Mapping[str, str],
    old: StoredRollout | None,
    rollouts: Iterable[StoredRollout] = (),
    ladders: Iterable[Ladder] = (),
) -> Wanted | None:
    """The rollout of this generation, or None while there is nothing to deliver or nothing new. ``rollouts``: all there are,
    among which the one to go back to is found when it begins; ``ladders``: next-best artifacts."""
    if not artifacts:
        return None
    labels = {"deployment": deployment.value.name, "model": deployment.value.spec.model, UID_LABEL: deployment.record.uid}
    mine = None if old is None or old.record.labels.get(UID_LABEL) != deployment.record.uid else old
    known = {} if mine is None else dict(mine.spec.artifacts)
    replaced = any(artifacts.get(profile, known[profile]) != known[profile] for profile in known)
    widened = bool(known) and not artifacts.keys() <= known.keys()
    base_rollout, base = _base(deployment, mine, rollouts, replaced or widened)
    every = {**known, **artifacts}
    rungs = {one.profile: one for one in (*(mine.spec.ladders if mine else ()), *ladders)}
    kept = tuple(rungs[profile] for profile in sorted(rungs) if profile in every)
    spec = RolloutSpec(deployment.value.name, deployment.value.spec.model, every, base, base_rollout, kept)
    if mine is not None and spec == mine.spec:
        return None
    again = bool(known) and every != known and len(deployment.value.spec.rollout.steps) > 1 and not _ended(mine)
    return Wanted(deployment.rollout, labels, spec, mine is None or replaced or again)


@dataclass(frozen=True)
class Reach:
    """How devices can be reached. ``live``: whether one is connected; ``since``: when the server began to listen; ``policy``: of
    the rollout; ``sizes``: of updates as differences."""

    live: Callable[[str], bool]
    since: float = 0.0
    policy: RolloutPolicy = RolloutPolicy()
    sizes: UpdateSizes = no_sizes


def members_of(
    rollout: StoredRollout, world: World, devices: Iterable[Device], reach: Reach, now: float
) -> dict[str, tuple[Member, Assignment]]:
    """The devices among ``devices`` that the rollout may reach: those connected, and those it reached before.

    A device that is away and was offered nothing is no member but unreachable: it holds no rollout up, and joins when it comes
    back. Silence counts from when the server began to listen: what a device had to say before that, nobody could hear; and one
    that says why it waits is not silent as long as it is there, nor one that fetches over a slow link.
    """
    offers, links = _offers(rollout.spec, rollout.record.name, world), Links(world, reach.policy, reach.sizes)
    found = {}
    for device in devices:
        offer = offers.get(device.made_for)
        if offer is None:
            continue
        status, state, live = device.status, standing(device.status, offer), reach.live(device.name)
        if state is None and not live:
            continue
        passage = links.over(offer, device)
        member = Member(
            device.name,
            state,
            _heard(status, state, reach, now, live=live),
            penalty_until(status),
            device.made_for,
            status.news_at,
            metered=state is None and not passage.open,
            message=status.message,
            fetching_seconds=_fetching_seconds(offer, world.profiles[device.made_for][1].spec.link),
        )
        found[device.name] = (member, passage.offer)
    return found


def _heard(status: DeviceStatus, state: DeviceState | None, reach: Reach, now: float, *, live: bool) -> float:
    """When a device was heard of last, as far as its deadline goes: that begins when one that waits for its window goes away."""
    waits = status.waits and state is DeviceState.PREFLIGHT
    return now if waits and live else max(reach.since, status.news_at, status.last_seen if waits else 0.0)


def _fetching_seconds(offer: Assignment, link: Link) -> float:
    """What a link takes for the whole artifact, as slowly as it may be filled; 0: nobody says how fast it is."""
    rate = link.usable
    return 8 * max(one.download_bytes for one in (offer.artifact, *offer.fallbacks)) / rate if rate else 0.0


def going_back(rollout: StoredRollout, world: World, devices: Iterable[Device], reach: Reach) -> dict[str, Assignment]:
    """What the devices of a rollout that was given up should run: the last good version for their profile, where there is one.
    On a link that is closed to it only those are told that were offered what failed: they have the good one in their slots."""
    if rollout.status.state != RolloutState.ABORTED or not rollout.spec.base:
        return {}
    good = RolloutSpec(rollout.spec.deployment, rollout.spec.model, rollout.spec.base, ladders=_base_ladders(rollout.spec, world))
    offers, failed = _offers(good, rollout.spec.base_rollout, world), _offers(rollout.spec, rollout.record.name, world)
    links, found = Links(world, reach.policy, reach.sizes), {}
    for device in devices:
        if device.made_for in offers:
            passage, bad = links.over(offers[device.made_for], device), failed.get(device.made_for)
            if passage.open or (bad is not None and standing(device.status, bad) is not None):
                found[device.name] = passage.offer
    return found


def claims(world: World, devices: Sequence[Device]) -> dict[str, list[Device]]:
    """Rollout -> its devices. A device belongs to the newest deployment that selects it and has an artifact for its profile."""
    claimed: dict[str, list[Device]] = {}
    found = [(one, rollout_of(one, world)) for one in world.deployments]
    current = [(deployment, rollout) for deployment, rollout in found if rollout is not None]
    for device in devices:
        for deployment, rollout in current:
            matches = deployment.value.spec.selector.matches(device.spec.profile, device.spec.labels)
            if matches and device.made_for in rollout.spec.artifacts:
                claimed.setdefault(rollout.record.name, []).append(device)
                break
    return claimed


def rollout_of(deployment: StoredDeployment, world: World) -> StoredRollout | None:
    """The deployment's rollout; while this generation has none yet, the one before where it was given up: its devices may still
    be on their way back."""
    if deployment.rollout in world.rollouts:
        return world.rollouts[deployment.rollout]
    mine = [one for one in world.rollouts.values() if one.record.labels.get(UID_LABEL) == deployment.record.uid]
    last = max(mine, key=lambda one: (one.record.created_at, one.record.name), default=None)
    return last if last is not None and last.status.state == RolloutState.ABORTED else None


def next_step(
    deployment: StoredDeployment,
    rollout: StoredRollout,
    members: Mapping[str, tuple[Member, Assignment]],
    now: float,
    unreachable: int = 0,
    gates: tuple[Finding, ...] = (),
) -> Step:
    """What the rollout does next. Raises Conflict when a status would follow that cannot follow."""
    policy, among = deployment.value.spec.rollout, [member for member, _ in members.values()]
    decision = decide(policy, rollout.status, among, now, seed=rollout.record.name, unreachable=unreachable, gates=gates)
    if decision.status.state != rollout.status.state:
        check_move(RolloutState(rollout.status.state), RolloutState(decision.status.state))
    return Step(decision.status, {name: members[name][1] for name in sorted(decision.exposed)})


def superseded(world: World) -> list[tuple[StoredRollout, RolloutStatus]]:
    """Rollouts whose deployment is gone or has a newer generation, with the status that says so. Devices keep what they run."""
    kept = [(one, rollout_of(one, world)) for one in world.deployments]
    current = {one.rollout if rollout is None else rollout.record.name: one.record.uid for one, rollout in kept}
    names = {one.value.name: one.rollout for one in world.deployments}
    found = []
    for name, rollout in world.rollouts.items():
        stale = current.get(name) != rollout.record.labels.get(UID_LABEL)
        if stale and rollout.status.state != RolloutState.SUPERSEDED:
            newer = names.get(rollout.spec.deployment)
            why = f"{newer} is newer" if newer and newer != name else f"deployment {rollout.spec.deployment} was deleted"
            found.append((rollout, replace(rollout.status, state=RolloutState.SUPERSEDED.value, message=why)))
    return found


def _ended(rollout: StoredRollout | None) -> bool:
    return rollout is not None and rollout.status.state in (RolloutState.ABORTED, RolloutState.SUPERSEDED)


def _base(
    deployment: StoredDeployment, old: StoredRollout | None, rollouts: Iterable[StoredRollout], anew: bool
) -> tuple[str, Mapping[str, str]]:
    """(rollout, artifacts) to go back to: what reached everybody last; empty where nothing did. ``anew``: it begins again."""
    if old is not None and not anew:
        return old.spec.base_rollout, old.spec.base
    if old is not None and old.status.completed:
        return old.record.name, old.spec.artifacts  # it begins anew under its name, with what it delivered before as its base
    if old is not None and old.spec.base:
        return old.spec.base_rollout, old.spec.base
    return reached_last(deployment, rollouts)


def reached_last(deployment: StoredDeployment, rollouts: Iterable[StoredRollout]) -> tuple[str, Mapping[str, str]]:
    """(rollout, artifacts) of the deployment that reached everybody last; empty where none did. ``rollouts``: all there are."""
    mine = [one for one in rollouts if one.record.labels.get(UID_LABEL) == deployment.record.uid]
    known = [one for one in mine if one.status.completed or one.spec.base]
    last = max(known, key=lambda one: (one.record.created_at, one.record.name), default=None)
    if last is None:
        return "", {}
    return (last.record.name, last.spec.artifacts) if last.status.completed else (last.spec.base_rollout, last.spec.base)


def _base_ladders(spec: RolloutSpec, world: World) -> tuple[Ladder, ...]:
    """The ladders that came with what is gone back to; a rollout that began anew under its name has others now."""
    last = world.rollouts.get(spec.base_rollout)
    return last.spec.ladders if last is not None and dict(last.spec.artifacts) == dict(spec.base) else ()


def _offers(spec: RolloutSpec, rollout: str, world: World) -> dict[str, Assignment]:
    found = {}
    for profile, name in spec.artifacts.items():
        if name in world.artifacts and profile in world.profiles:
            others = tuple(world.artifacts[other] for other in spec.fallbacks(profile) if other in world.artifacts)
            found[profile] = assignment_for(rollout, spec, world.artifacts[name], world.profiles[profile][1].spec, others)
    return found
