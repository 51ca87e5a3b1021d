"""What may travel over a device's link: on metered ones updates as differences, or nothing, by policy. Pure.

How large differences are is asked; it is found out by ``server.update_sizes``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_compress.delivery.devices import Device
from edge_compress.delivery.world import World
from edge_compress.domain.artifact import Artifact
from edge_compress.domain.fleet import DeviceStatus
from edge_compress.domain.session import Assignment
from edge_compress.domain.spec import Link, RolloutPolicy

WORTH_IT = 0.75
"""of the whole download: differences that are larger are none in all but name"""
UpdateSizes = Callable[[str, str], int | None]
"""(base sha256, sha256) -> bytes that an update takes as differences; None: that is being found out"""


def no_sizes(base: str, sha256: str) -> int | None:
    """Nothing is ever found out."""
    return None


@dataclass(frozen=True)
class Passage:
    """An offer on the terms of a device's link. ``open``: it may begin; else nothing may travel, not now or not ever under this
    policy, but a device that is at it already goes on, on these terms."""

    offer: Assignment
    open: bool = True


def over_link(
    offer: Assignment,
    status: DeviceStatus,
    runs: Artifact | None,
    link: Link,
    policy: RolloutPolicy,
    sizes: UpdateSizes = no_sizes,
) -> Passage:
    """How an offer may reach a device that runs ``runs``; None: nothing that the server knows."""
    if link.update_rate:
        offer = replace(offer, bytes_per_second=link.update_rate / 8)
    if not link.metered or policy.metered == "whole":
        return Passage(offer)
    if not status.version:  # there is nothing that differences could go to
        return Passage(offer, open=may_travel(policy.metered, offer.artifact.download_bytes, None, again=False))
    wanted = (offer.artifact, *offer.fallbacks)
    known = [_update_bytes(runs, one, sizes) for one in wanted]  # all are asked for at once
    small = [worth_sending(size, one.download_bytes) for size, one in zip(known, wanted, strict=True)]
    others = tuple(one for one, fits in zip(offer.fallbacks, small[1:], strict=True) if fits)
    told = replace(offer, fallbacks=others, differences_only=True)
    wide = may_travel(policy.metered, offer.artifact.download_bytes, known[0], again=True)
    return Passage(told, open=wide and None not in known)


class Links:
    """The passages to the devices of one rollout: one object for all devices alike, of which there may be thousands."""

    def __init__(self, world: World, policy: RolloutPolicy, sizes: UpdateSizes) -> None:
        self._world, self._policy, self._sizes = world, policy, sizes
        self._known: dict[tuple[str, str, bool], Passage] = {}

    def over(self, offer: Assignment, device: Device) -> Passage:
        """How ``offer``, the same for every device of a profile, may reach a device."""
        status = device.status
        alike = device.made_for, status.artifact, bool(status.version)
        if alike not in self._known:
            link, runs = self._world.profiles[device.made_for][1].spec.link, self._world.artifacts.get(status.artifact)
            self._known[alike] = over_link(offer, status, runs, link, self._policy, self._sizes)
        return self._known[alike]


def may_travel(policy: str, whole: int, size: int | None, *, again: bool) -> bool:
    """Whether a metered link may carry an artifact by the policy's word: ``whole`` bytes, or ``size`` as differences; ``again``:
    the device has a version already."""
    return policy == "whole" or (policy == "differences" and (not again or worth_sending(size, whole)))


def worth_sending(size: int | None, whole: int) -> bool:
    """Whether differences of that size are worth sending instead of the whole; None: nobody knows their size."""
    return size is not None and size <= WORTH_IT * whole


def _update_bytes(runs: Artifact | None, wanted: Artifact, sizes: UpdateSizes) -> int | None:
    if runs is None:
        return None
    return 0 if runs.sha256 == wanted.sha256 else sizes(runs.sha256, wanted.sha256)
