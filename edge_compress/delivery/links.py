"""What may travel over a device's link: on metered ones updates as differences, or nothing, by policy. Pure.

How large differences are is asked; it is found out by ``server.update_sizes``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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


def over_link(
    offer: Assignment,
    status: DeviceStatus,
    runs: Artifact | None,
    link: Link,
    policy: RolloutPolicy,
    sizes: UpdateSizes = no_sizes,
) -> Assignment | None:
    """The offer as it may be made to a device that runs ``runs`` (None: nothing that the server knows); None: nothing may travel,
    not now or not ever under this policy."""
    if link.update_rate:
        offer = replace(offer, bytes_per_second=link.update_rate / 8)
    if not link.metered or policy.metered == "whole":
        return offer
    if policy.metered == "wait":
        return None
    if not status.version:
        return offer  # a first version: there is nothing that differences could go to
    if runs is None or not _is_small(runs, offer.artifact, sizes):
        return None
    others = tuple(one for one in offer.fallbacks if _is_small(runs, one, sizes))
    return replace(offer, fallbacks=others, differences_only=True)


def worth_sending(size: int | None, whole: int) -> bool:
    """Whether differences of that size are worth sending instead of the whole; None: nobody knows their size."""
    return size is not None and size <= WORTH_IT * whole


def _is_small(runs: Artifact, wanted: Artifact, sizes: UpdateSizes) -> bool:
    return runs.sha256 == wanted.sha256 or worth_sending(sizes(runs.sha256, wanted.sha256), wanted.download_bytes)
