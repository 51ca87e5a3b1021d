"""Where a device contradicts the profile that it names, and what a profile would say that is true of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from edge_compress.domain.cost import in_bytes
from edge_compress.domain.fleet import DeviceFacts
from edge_compress.domain.spec import DeviceProfileSpec

_MEMORY_SHARE = 0.5
"""of a device's memory that a model may add at most; the rest is the system's, the runtime's and the applications'"""
_SLOTS = 2
"""versions that must fit on the disk at once, for one to follow the other"""


@dataclass(frozen=True)
class Contradiction:
    """A field of the profile, the value that would be true, and the difference in words."""

    field: str
    true: Any
    words: str


def contradictions(profile: DeviceProfileSpec, facts: DeviceFacts) -> tuple[Contradiction, ...]:
    """Every one, in the order of the fields; what the device does not say contradicts nothing. Amounts are coarse: devices of
    one make tell some pages more or less, and are to share one profile."""
    return tuple(_found(profile, facts))


def as_it_is(profile: DeviceProfileSpec, found: tuple[Contradiction, ...]) -> DeviceProfileSpec:
    """The profile with what is true of the device."""
    return replace(profile, **{item.field: item.true for item in found})


def _found(profile: DeviceProfileSpec, facts: DeviceFacts) -> Iterator[Contradiction]:
    if facts.runtimes and profile.runtime not in facts.runtimes:
        words = f"the profile's runtime is {profile.runtime}, the device has {', '.join(facts.runtimes)}"
        yield Contradiction("runtime", facts.runtimes[0], words)
    if facts.memory_bytes and profile.memory is not None and profile.memory > facts.memory_bytes:
        words = f"the profile lets models add {in_bytes(profile.memory)} of memory, the device has {in_bytes(facts.memory_bytes)}"
        yield Contradiction("memory", coarse(_MEMORY_SHARE * facts.memory_bytes), words)
    if facts.storage_bytes and profile.storage is not None and _SLOTS * profile.storage > facts.storage_bytes:
        words = f"the profile lets a version take {in_bytes(profile.storage)}, the device has {in_bytes(facts.storage_bytes)}"
        yield Contradiction("storage", coarse(facts.storage_bytes / _SLOTS), f"{words} for {_SLOTS} of them")
    if profile.int8_dot_product and facts.int8_dot_product is False:
        yield Contradiction("int8_dot_product", False, "the profile says int8_dot_product, the device's processor has none")
    if facts.cores and profile.threads > facts.cores:
        words = f"the profile allows {profile.threads} threads, the device has {facts.cores} cores"
        yield Contradiction("threads", facts.cores, words)


def coarse(amount: float) -> int:
    """The next of 1, 1.5, 2, 3, 4, 6, 8 … at or below an amount, at least 1."""
    power = 1 << max(0, int(amount).bit_length() - 1)
    return max(1, power + power // 2 if amount >= 1.5 * power else power)
