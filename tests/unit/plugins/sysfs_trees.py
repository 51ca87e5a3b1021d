"""Trees of sysfs as the kernel's documents describe them, and a site on one with clocks that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_compress.plugin import MeterSite


def write(root: Path, **files: object) -> Path:
    """Files in a folder, each with a line."""
    root.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (root / name).write_text(f"{value}\n")
    return root


def zone(root: Path, folder: str, name: str, energy: int = 0, limit: int = 262_143_328_850) -> Path:
    """A zone of powercap; ``energy`` and ``limit`` in microjoules."""
    return write(root / "sys/class/powercap" / folder, name=name, energy_uj=energy, max_energy_range_uj=limit)


def laptop(root: Path) -> None:
    """An Intel machine: a package with core, uncore and dram beneath it, psys around it, and the memory-mapped one again."""
    zone(root, "intel-rapl:0", "package-0", 1_000)
    for index, name in enumerate(("core", "uncore", "dram")):
        zone(root, f"intel-rapl:0:{index}", name, 500)
    zone(root, "intel-rapl:1", "psys", 9_000)
    zone(root, "intel-rapl-mmio:0", "package-0", 77)


def ina3221(root: Path, number: int, *rails: tuple[str, int, int]) -> Path:
    """An INA3221 as the mainline driver shows it: label, millivolts and milliamperes of each channel, and their sums."""
    folder = write(root / f"sys/class/hwmon/hwmon{number}", name="ina3221", in7_label="sum of shunt voltages", curr4_input=9999)
    for index, (label, millivolts, milliamperes) in enumerate(rails, 1):
        channel = {f"in{index}_label": label, f"in{index}_input": millivolts, f"curr{index}_input": milliamperes}
        write(folder, **channel, **{f"in{index}_enable": 1})
    return folder


def orin_nano(root: Path, milliamperes: int = 1000) -> Path:
    """5 V times ``milliamperes`` into the module, of which its processors take a part."""
    return ina3221(root, 1, ("VDD_IN", 5000, milliamperes), ("VDD_CPU_GPU_CV", 5000, 300), ("VDD_SOC", 5000, 200))


def old_nano(root: Path) -> Path:
    """A Jetson Nano under L4T 32."""
    folder = root / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write(folder, rail_name_0="POM_5V_IN", rail_name_1="POM_5V_GPU", rail_name_2="POM_5V_CPU")
    return write(folder, in_power0_input=2500, in_power1_input=40, in_power2_input=600)


def battery(root: Path, name: str = "BAT0", **files: object) -> Path:
    """A battery that discharges; ``energy_now`` in microwatt-hours or ``charge_now`` in microampere-hours."""
    plain = {"type": "Battery", "status": "Discharging", "capacity": 50}
    return write(root / "sys/class/power_supply" / name, **{**plain, **files})


@dataclass
class Clocks:
    """Seconds awake and seconds since boot."""

    awake: float = 100.0
    booted: float = 500.0

    def run(self, seconds: float) -> None:
        self.awake += seconds
        self.booted += seconds

    def sleep(self, seconds: float) -> None:
        """The device is suspended."""
        self.booted += seconds


@dataclass
class Place:
    """A site and what moves it."""

    root: Path
    clocks: Clocks = field(default_factory=Clocks)
    cpu_seconds: float = 0.0

    def site(self, **said: object) -> MeterSite:
        clocks = {"clock": lambda: self.clocks.awake, "since_boot": lambda: self.clocks.booted}
        return MeterSite(self.root, cpu_seconds=lambda: self.cpu_seconds, **clocks, **said)  # type: ignore[arg-type]
