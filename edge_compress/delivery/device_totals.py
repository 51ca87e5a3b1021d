"""What each device made of each artifact, all boots together, kept as reports come in: for ``/metrics/devices``.

Kept only where somebody asked for it. What reports add up to is decided in ``usage``, what is shown in ``device_metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_compress.delivery.totals import MICRO
from edge_compress.device_metrics import DeviceTotal
from edge_compress.store.interface import UsageKey, UsageTotals

_NOTHING = DeviceTotal({}, 0, {})
_Key = tuple[str, str, str]
"""profile, model, version"""


class DeviceTotals:
    """Totals by device. Each is replaced whole, so that any thread may read while one writes."""

    def __init__(self) -> None:
        self.changed: Callable[[str], None] = lambda device: None
        """called with each device whose totals changed"""
        self._totals: dict[str, dict[_Key, DeviceTotal]] = {}

    def of(self, device: str, profile: str, model: str, version: str) -> DeviceTotal | None:
        """What a device made of one artifact; None when it reported nothing."""
        totals = self._totals.get(device)
        return totals.get((profile, model, version)) if totals is not None else None

    def replace(self, key: UsageKey, old: UsageTotals | None, new: UsageTotals) -> None:
        """A row of the ledger became another one."""
        if key.device:  # else it stands for devices that were forgotten
            totals = self._totals.setdefault(key.device, {})
            at = (key.profile, key.model, key.version)
            totals[at] = _moved(totals.get(at, _NOTHING), old or UsageTotals(), new)
            self.changed(key.device)

    def forget(self, device: str) -> None:
        """Drop a device."""
        self._totals.pop(device, None)


def _moved(total: DeviceTotal, old: UsageTotals, new: UsageTotals) -> DeviceTotal:
    return DeviceTotal(
        _shifted(total.inferences, old.inferences, new.inferences),
        total.micros + _micro(new.duration_sum) - _micro(old.duration_sum),
        _shifted(total.microjoules, _micros(old.energy), _micros(new.energy)),
    )


def _shifted(total: Mapping[str, int], old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """``new`` names whatever ``old`` names: counters of a boot never go."""
    made = dict(total)
    for name, amount in new.items():
        made[name] = made.get(name, 0) + amount - old.get(name, 0)
    return made


def _micros(amounts: Mapping[str, float]) -> dict[str, int]:
    return {name: _micro(amount) for name, amount in amounts.items()}


def _micro(amount: float) -> int:
    return round(amount * MICRO)
