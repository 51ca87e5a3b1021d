"""What every energy meter must do, ours and strangers': held against each one that is registered, on a device that has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from edge_compress_meters.nvml import Nvml

from edge_compress.domain.session import ENERGY_SOURCES
from edge_compress.plugin import EnergyMeter
from edge_compress.plugin.registry import Registry
from tests.unit.plugins.sysfs_trees import Place, battery, laptop, orin_nano, write
from tests.unit.plugins.test_meters import Driver


@dataclass
class Case:
    """A device that has the meter: what is said of it, and what makes it spend something, whichever step it is."""

    prepare: Callable[[Place], dict[str, Any]]
    spend: Callable[[Place, int], None]
    meter: EnergyMeter | None = None


def _rapl(place: Place) -> dict[str, Any]:
    laptop(place.root)
    return {}


def _board(place: Place) -> dict[str, Any]:
    write(place.root / "sys/class/hwmon/hwmon0", name="power_meter", power1_average=2_000_000)
    return {}


def _command(place: Place) -> dict[str, Any]:
    (place.root / "joules").write_text("5")
    return {"command": f"cat {place.root / 'joules'}"}


DRIVER = Driver()
CASES = {
    "rapl": Case(_rapl, lambda p, n: void(write(p.root / "sys/class/powercap/intel-rapl:0", energy_uj=1000 + n * 700))),
    "ina": Case(lambda p: orin_nano(p.root) and {}, lambda p, n: p.clocks.run(1.0)),
    "hwmon": Case(_board, lambda p, n: p.clocks.run(1.0)),
    "battery": Case(
        lambda p: battery(p.root, energy_now=9_000_000) and {},
        lambda p, n: void(write(p.root / "sys/class/power_supply/BAT0", energy_now=9_000_000 - n * 10_000)),
    ),
    "nvml": Case(lambda p: {}, lambda p, n: DRIVER.millijoules.__setitem__(0, 1000 + n * 10), Nvml(lambda name: DRIVER)),
    "external": Case(_command, lambda p, n: void((p.root / "joules").write_text(str(5 + n)))),
    "estimate": Case(lambda p: {"watts_per_core": 1.5}, lambda p, n: setattr(p, "cpu_seconds", n * 0.1)),
}
METERS = Registry.load(only=["meters"]).energy_meters


def void(_: object) -> None:
    pass


def test_every_source_that_reports_may_name_has_a_meter_and_every_meter_a_case() -> None:
    assert {meter.source for meter in METERS.values()} == ENERGY_SOURCES
    assert set(CASES) == set(METERS)


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_counts_joules_that_never_fall_and_says_how_well(name: str, tmp_path: Path) -> None:
    place, case = Place(tmp_path), CASES[name]
    said = case.prepare(place)
    counter = (case.meter or METERS[name]).open(place.site(**said))
    assert re.fullmatch(r"[a-z]+", counter.scope)
    assert 0 < counter.uncertainty < 1
    assert counter.sample_seconds > 0
    assert counter.resolution_seconds >= 0
    seen = [counter.read()]
    assert seen == [0.0]
    for step in range(1, 5):
        case.spend(place, step)
        seen.append(counter.read())
    assert seen == sorted(seen)
    assert seen[-1] > seen[-2] > 0
    assert counter.read() == seen[-1]
    counter.close()


@pytest.mark.parametrize("name", sorted(CASES))
def test_two_counters_of_one_meter_know_nothing_of_each_other(name: str, tmp_path: Path) -> None:
    place, case = Place(tmp_path), CASES[name]
    meter, said = case.meter or METERS[name], case.prepare(place)
    first = meter.open(place.site(**said))
    for step in (1, 2):
        case.spend(place, step)
        first.read()
    second = meter.open(place.site(**said))
    assert (second.read(), first.read() > 0) == (0.0, True)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_device_without_it_is_told_apart_from_one_that_may_not_read_it(name: str, tmp_path: Path) -> None:
    if name != "nvml":
        with pytest.raises(FileNotFoundError):
            METERS[name].open(Place(tmp_path).site())
