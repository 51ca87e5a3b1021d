"""Devices that contradict their profile: profiles that are true of them, made by the server, for which it then compresses. Pure.

Such a profile is named after the one that it stands in for and what it says, so that devices that drift alike share one. It goes
with the last device that needs it. Writing is left to ``reconcile``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from edge_compress.delivery.devices import Device
from edge_compress.delivery.world import World
from edge_compress.domain.drift import as_it_is, contradictions
from edge_compress.domain.fleet import DeviceFacts
from edge_compress.domain.schema import encode
from edge_compress.domain.spec import STANDS_IN_FOR, DeviceProfileSpec

_NOTHING_SAID = DeviceFacts()
_NAME_LENGTH = 48
MOST_FOR_ONE = 16
"""profiles that stand in for one; further devices get what is made for the one that they name"""


@dataclass(frozen=True)
class Drift:
    """Devices as they are, and the profiles for those that drift: by name, those that must be there and those to remove."""

    devices: tuple[Device, ...]
    needed: Mapping[str, tuple[str, DeviceProfileSpec]]
    """name -> (the profile that it stands in for, what it says)"""
    stale: frozenset[str]


def drift_of(world: World, devices: Iterable[Device], runtimes: Collection[str]) -> Drift:
    """What follows from what the devices say they have. ``runtimes``: those that something can be compressed for here."""
    needed: dict[str, tuple[str, DeviceProfileSpec]] = {}
    known: dict[tuple[str, DeviceFacts], tuple[tuple[str, ...], str]] = {}
    found = []
    for device in devices:
        profile, facts = device.spec.profile, device.spec.facts
        judged: tuple[tuple[str, ...], str] = ((), "")
        if facts != _NOTHING_SAID and profile in world.profiles:
            key = (profile, facts)
            if key not in known:
                known[key] = _judged(world, *key, needed, runtimes)
            judged = known[key]
        if (device.status.drift, device.status.made_for) != judged:
            device = replace(device, status=replace(device.status, drift=judged[0], made_for=judged[1]))
        found.append(device)
    made = {name for name, (record, _) in world.profiles.items() if STANDS_IN_FOR in record.labels}
    return Drift(tuple(found), needed, frozenset(made - needed.keys()))


def _judged(
    world: World,
    profile: str,
    facts: DeviceFacts,
    needed: dict[str, tuple[str, DeviceProfileSpec]],
    runtimes: Collection[str],
) -> tuple[tuple[str, ...], str]:
    """(what a device with these facts contradicts, the profile that is true of it); both empty where it contradicts nothing. No
    profile where nothing could be made for it, and once there are too many: devices are not trusted to have all made anew."""
    declared = world.profiles[profile][1].spec
    found = contradictions(declared, facts)
    if not found:
        return (), ""
    words, true = tuple(item.words for item in found), as_it_is(declared, found)
    digest = hashlib.sha256(json.dumps(encode(true), sort_keys=True).encode()).hexdigest()[:8]
    name = f"{profile[:_NAME_LENGTH].rstrip('-._')}-as-{digest}"
    if name not in needed:
        if true.runtime not in runtimes or sum(one == profile for one, _ in needed.values()) >= MOST_FOR_ONE:
            return words, ""
        needed[name] = (profile, true)
    return words, name
