"""Power sensors of hwmon: INA3221 and its like, as on Jetson boards, and sensors of whole boards.

Sources: the kernel's documents hwmon/sysfs-interface, hwmon/ina3221, hwmon/ina2xx and hwmon/acpi_power_meter; the rails of Jetson
modules in NVIDIA's Jetson Linux Developer Guide. A board shows a total beside its parts: one rail is taken, never a sum.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_compress.plugin import EnergyCounter, EnergyMeter, MeterSite, PowerIntegral
from edge_compress_meters import sysfs

_TOTALS = ("VDD_IN", "POM_5V_IN", "VIN", "TOTAL", "SYSTEM")
"""rails that feed the whole module: Orin NX and Nano, Xavier NX, TX2 (VDD_IN), Nano (POM_5V_IN)"""
_PROCESSORS = ("VDD_CPU_GPU_CV", "VDD_CPU_CV", "VDD_SYS_CPU", "POM_5V_CPU", "VDD_CPU", "CPU")
"""rails of the processor, for boards without a total: AGX Orin (VDD_CPU_CV), AGX Xavier (CPU)"""
_BOARD_CHIPS = ("power_meter", "pmbus", "ltc2945", "ltc2947")
_OTHER_DEVICES = ("amdgpu", "radeon", "nouveau", "i915", "xe", "nvme", "drivetemp", "mlx5", "ucsi_source_psy")
"""chips that measure a graphics card, a disk or a plug: not what the model runs on"""


@dataclass(frozen=True)
class Rail:
    """One line that is measured."""

    chip: str
    label: str
    watts: Callable[[], float]


class Ina(EnergyMeter):
    """INA3221 and other current sensors on the board, as on Jetson: the total's rail, else the processor's."""

    name = source = "ina"

    def open(self, site: MeterSite) -> EnergyCounter:
        """Raises OSError where there is no such rail."""
        rails = [rail for rail in rails_of(site.root) if rail.chip.startswith("ina")]
        return _Sensor(*chosen(rails, "no INA sensor of the whole board or the processor"), site)


class Hwmon(EnergyMeter):
    """Other power sensors of hwmon: the board's, or the only one there is."""

    name = source = "hwmon"

    def open(self, site: MeterSite) -> EnergyCounter:
        """Raises OSError where there is none, or several of which none says that it is the total."""
        rails = [rail for rail in rails_of(site.root) if not rail.chip.startswith("ina")]
        return _Sensor(*chosen(rails, "no power sensor of the whole board"), site)


class _Sensor(EnergyCounter):
    # An INA measures to 1% or better; that it is asked now and then and not always weighs more.
    resolution_seconds, sample_seconds, uncertainty = 0.2, 0.2, 0.05

    def __init__(self, rail: Rail, scope: str, site: MeterSite) -> None:
        self.scope = scope
        self._integral = PowerIntegral(rail.watts, site, longest=5.0)

    def read(self) -> float:
        """Joules of the rail."""
        return self._integral.read()


def chosen(rails: list[Rail], otherwise: str) -> tuple[Rail, str]:
    """The one rail that counts and its scope. Raises OSError, ``otherwise`` being why."""
    for labels, scope in ((_TOTALS, "board"), (_PROCESSORS, "cpu")):
        for label in labels:
            for rail in rails:
                if rail.label.upper() == label:
                    return rail, scope
    if len(rails) == 1:
        return rails[0], "board"
    names = ", ".join(f"{rail.chip} {rail.label}" for rail in rails)
    raise FileNotFoundError(errno.ENOENT, f"{otherwise}{f', but {names}' if names else ''}")


def rails_of(root: Path) -> list[Rail]:
    """Every rail whose watts can be read now."""
    found = []
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        chip = sysfs.text(folder / "name")
        if chip and chip not in _OTHER_DEVICES:
            found += [*_powers(folder, chip), *_currents(folder, chip)]
    return [*found, *_old_jetson(root)]


def _powers(folder: Path, chip: str) -> Iterator[Rail]:
    """powerN_input or, where the chip averages, powerN_average: microwatts."""
    for path in sorted([*folder.glob("power*_input"), *folder.glob("power*_average")]):
        number = path.name.split("_")[0]
        label = sysfs.text(folder / f"{number}_label") or sysfs.text(folder / "label") or _whole(chip) or number
        yield from _readable(chip, label, lambda path=path: sysfs.number(path) / 1e6)


def _currents(folder: Path, chip: str) -> Iterator[Rail]:
    """inN_input (millivolts) times currN_input (milliamperes) of one channel, for chips that give no power."""
    if any(folder.glob("power*_input")):
        return
    for path in sorted(folder.glob("in[123]_label")):
        channel = path.name[2]
        volts, amperes, label = folder / f"in{channel}_input", folder / f"curr{channel}_input", sysfs.text(path)
        if sysfs.text(folder / f"in{channel}_enable") != "0" and label not in ("", "NC"):
            yield from _readable(chip, label, lambda v=volts, a=amperes: sysfs.number(v) * sysfs.number(a) / 1e6)


def _old_jetson(root: Path) -> Iterator[Rail]:
    """L4T up to 32 (Nano, TX2) has NVIDIA's own driver: in_powerN_input in milliwatts."""
    for path in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*")):
        watts = path.with_name(f"in_power{path.name[-1]}_input")
        yield from _readable("ina3221", sysfs.text(path), lambda watts=watts: sysfs.number(watts) / 1e3)


def _readable(chip: str, label: str, watts: Callable[[], float]) -> Iterator[Rail]:
    try:
        watts()
    except OSError:
        return
    yield Rail(chip, label, watts)


def _whole(chip: str) -> str:
    return "TOTAL" if chip in _BOARD_CHIPS else ""
