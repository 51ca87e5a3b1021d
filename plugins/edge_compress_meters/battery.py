"""What a battery has lost. Source: the kernel's document ABI/testing/sysfs-class-power.

Coarse: a step is some tens of joules, and nothing is known while it charges.
"""

from __future__ import annotations

import errno
from pathlib import Path

from edge_compress.plugin import EnergyCounter, EnergyMeter, MeterSite
from edge_compress_meters import sysfs

_JOULES_PER_MICROWATT_HOUR = 3600 / 1e6


class Battery(EnergyMeter):
    """What the battery that the device runs on loses, while it does not charge."""

    name = source = "battery"

    def open(self, site: MeterSite) -> EnergyCounter:
        """Raises OSError where there is no battery, several, or one that does not say what it holds."""
        found = [folder for folder in sorted(site.root.glob("sys/class/power_supply/*")) if _is_battery(folder)]
        if len(found) != 1:
            what = f"{len(found)} batteries, and which one feeds the device is not known" if found else "no battery"
            raise FileNotFoundError(errno.ENOENT, what)
        return _Discharge(found[0])


class _Discharge(EnergyCounter):
    scope, shared = "device", True
    resolution_seconds, sample_seconds, uncertainty = 5.0, 5.0, 0.1

    def __init__(self, folder: Path) -> None:
        self._folder, self._joules = folder, 0.0
        self._last, self._anew = self._held(), True
        self.resolution_joules = 0.0
        self.read()

    def read(self) -> float:
        """Joules lost in whole steps, between the first step that was seen and the last. Raises OSError while it charges: another
        meter may do better."""
        if (status := sysfs.text(self._folder / "status")) != "Discharging":
            raise OSError(f"the battery is {status.lower() or 'silent'}, not discharging")
        held = self._held()
        step, self._last = self._last - held, held
        if step > 0 and self._anew:
            self._anew = False  # the first step began before anybody looked
        elif step > 0:
            self._joules += step
            self.resolution_joules = step if not self.resolution_joules else min(step, self.resolution_joules)
        return self._joules

    def _held(self) -> float:
        """Joules in it: energy in microwatt-hours, else charge in microampere-hours times the volts it is made for."""
        energy = self._folder / "energy_now"
        if energy.exists():
            return sysfs.number(energy) * _JOULES_PER_MICROWATT_HOUR
        charge = sysfs.number(self._folder / "charge_now")
        return charge * _volts(self._folder) * _JOULES_PER_MICROWATT_HOUR


def _volts(folder: Path) -> float:
    """A constant: with the voltage of the moment, each sag would look like energy."""
    for name in ("voltage_min_design", "voltage_max_design", "voltage_now"):
        if (folder / name).exists():
            return sysfs.number(folder / name) / 1e6
    raise FileNotFoundError(errno.ENOENT, "the battery says no voltage", str(folder))


def _is_battery(folder: Path) -> bool:
    # Scope Device is the battery of a mouse or a headset.
    return sysfs.text(folder / "type") == "Battery" and sysfs.text(folder / "scope") != "Device"
