"""Each meter on trees of sysfs built from the kernel's documents, or on a played library, command or server."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from edge_compress_meters.battery import Battery
from edge_compress_meters.estimate import Estimate
from edge_compress_meters.external import External, reading
from edge_compress_meters.nvml import Nvml
from edge_compress_meters.rapl import Rapl
from edge_compress_meters.sensors import Hwmon, Ina

from edge_compress.plugin import PowerIntegral
from tests.unit.plugins.sysfs_trees import Place, battery, ina3221, laptop, old_nano, orin_nano, write, zone


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_rapl_counts_a_package_once_whatever_is_within_or_around_it(place: Place) -> None:
    laptop(place.root)
    counter = Rapl().open(place.site())
    for folder in (place.root / "sys/class/powercap").iterdir():
        write(folder, energy_uj=int((folder / "energy_uj").read_text()) + 2_000_000)
    assert counter.read() == pytest.approx(2.0)
    assert (counter.scope, counter.shared) == ("package", True)


def test_rapl_sums_packages_and_survives_a_wrap(place: Place) -> None:
    first, second = (
        zone(place.root, "intel-rapl:0", "package-0", 900, 1000),
        zone(place.root, "intel-rapl:1", "package-1", 100, 1000),
    )
    counter = Rapl().open(place.site())
    write(first, energy_uj=950)
    write(second, energy_uj=300)
    assert counter.read() == pytest.approx(250e-6)
    write(first, energy_uj=10)
    assert counter.read() == pytest.approx(310e-6)
    assert counter.read() == pytest.approx(310e-6)


def test_rapl_that_only_root_may_read_says_how_to_allow_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    energy = zone(place.root, "intel-rapl:0", "package-0") / "energy_uj"
    refuse(monkeypatch, energy)
    with pytest.raises(PermissionError, match=r"only root may read it; to allow it, as root: chmod a\+r .*energy_uj"):
        Rapl().open(place.site())


def refuse(monkeypatch: pytest.MonkeyPatch, refused: Path) -> None:
    """A mode would not keep root out, which tests may run as."""
    read = Path.read_text

    def played(path: Path, *arguments: Any, **options: Any) -> str:
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", played)


def test_an_ina_takes_the_rail_of_the_whole_board_and_never_a_sum(place: Place) -> None:
    folder = orin_nano(place.root, milliamperes=1000)
    counter = Ina().open(place.site())
    assert counter.scope == "board"
    place.clocks.run(1.0)
    assert counter.read() == pytest.approx(5.0)
    write(folder, curr1_input=2000)
    place.clocks.run(1.0)
    assert counter.read() == pytest.approx(5.0 + 7.5)


def test_without_a_total_the_processors_rail_counts_and_says_so(place: Place) -> None:
    ina3221(place.root, 1, ("VDD_GPU_SOC", 5000, 700), ("VDD_CPU_CV", 5000, 200), ("VIN_SYS_5V0", 5000, 900))
    ina3221(place.root, 2, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 100), ("NC", 0, 0))
    counter = Ina().open(place.site())
    place.clocks.run(2.0)
    assert (counter.scope, counter.read()) == ("cpu", pytest.approx(2.0))


def test_nvidias_old_driver_is_read_too(place: Place) -> None:
    old_nano(place.root)
    counter = Ina().open(place.site())
    place.clocks.run(2.0)
    assert (counter.scope, counter.read()) == ("board", pytest.approx(5.0))


def test_hwmon_takes_the_board_and_no_graphics_card_or_unnamed_part(place: Place) -> None:
    write(place.root / "sys/class/hwmon/hwmon0", name="amdgpu", power1_average=90_000_000)
    with pytest.raises(FileNotFoundError):
        Hwmon().open(place.site())
    write(place.root / "sys/class/hwmon/hwmon1", name="fam15h_power", power1_input=20_000_000)
    write(place.root / "sys/class/hwmon/hwmon2", name="other", power1_input=10_000_000)
    with pytest.raises(FileNotFoundError, match="but fam15h_power power1, other power1"):
        Hwmon().open(place.site())
    write(place.root / "sys/class/hwmon/hwmon3", name="power_meter", power1_average=40_000_000)
    counter = Hwmon().open(place.site())
    place.clocks.run(0.5)
    assert (counter.scope, counter.read()) == ("board", pytest.approx(20.0))


def test_power_is_not_integrated_over_a_suspend_or_a_time_nobody_looked(place: Place) -> None:
    integral = PowerIntegral(lambda: 3.0, place.site(), longest=5.0)
    place.clocks.run(1.0)
    assert integral.read() == pytest.approx(3.0)
    place.clocks.run(1.0)
    place.clocks.sleep(3600.0)
    assert integral.read() == pytest.approx(3.0)
    place.clocks.run(60.0)
    assert integral.read() == pytest.approx(3.0)
    place.clocks.run(1.0)
    assert integral.read() == pytest.approx(6.0)


def test_a_battery_counts_whole_steps_after_the_first(place: Place) -> None:
    folder = battery(place.root, energy_now=20_000_000)
    battery(place.root, "hid-mouse", scope="Device", energy_now=1)
    counter = Battery().open(place.site())
    write(folder, energy_now=19_990_000)  # began before anybody looked
    assert counter.read() == 0.0
    write(folder, energy_now=19_980_000)
    assert counter.read() == pytest.approx(36.0)
    assert counter.read() == pytest.approx(36.0)
    assert counter.resolution_joules == pytest.approx(36.0)


def test_a_battery_that_counts_charge_is_not_misled_by_sagging_volts(place: Place) -> None:
    folder = battery(place.root, charge_now=1_000_000, voltage_min_design=3_600_000, voltage_now=4_100_000)
    counter = Battery().open(place.site())
    for charge, volts in ((999_000, 3_700_000), (998_000, 3_500_000)):
        write(folder, charge_now=charge, voltage_now=volts)
        joules = counter.read()
    assert joules == pytest.approx(1e-3 * 3.6 * 3600)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_that_does_not_discharge_tells_nothing(place: Place, status: str) -> None:
    folder = battery(place.root, energy_now=20_000_000, status=status)
    with pytest.raises(OSError, match="not discharging"):
        Battery().open(place.site())
    write(folder, status="Discharging")
    counter = Battery().open(place.site())
    write(folder, status=status)
    with pytest.raises(OSError, match="not discharging"):
        counter.read()


def test_two_batteries_are_not_guessed_at(place: Place) -> None:
    battery(place.root, "BAT0", energy_now=1)
    battery(place.root, "BAT1", energy_now=1)
    with pytest.raises(FileNotFoundError, match="2 batteries"):
        Battery().open(place.site())


class Driver:
    """NVML's functions that are used, with two cards."""

    def __init__(self, code: int = 0) -> None:
        self.millijoules, self.code, self.shut = [1_000, 5_000], code, 0

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        self.shut += 1
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.millijoules)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, card: Any) -> int:
        card._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, card: ctypes.c_void_p, millijoules: Any) -> int:
        millijoules._obj.value = self.millijoules[(card.value or 0) - 1]
        return self.code


def test_nvml_sums_cards_in_joules_and_survives_a_driver_that_begins_anew(place: Place) -> None:
    driver = Driver()
    counter = Nvml(lambda name: driver).open(place.site())
    driver.millijoules = [3_000, 6_000]
    assert counter.read() == pytest.approx(3.0)
    driver.millijoules = [500, 6_000]
    assert counter.read() == pytest.approx(3.5)
    counter.close()
    assert driver.shut == 1


def test_nvml_without_a_driver_or_on_an_old_card_is_no_meter(place: Place) -> None:
    driver = Driver(code=3)
    with pytest.raises(OSError, match="nvmlDeviceGetTotalEnergyConsumption failed with code 3"):
        Nvml(lambda name: driver).open(place.site())
    assert driver.shut == 1


def test_a_command_is_started_without_a_shell(place: Place) -> None:
    script, total = place.root / "meter.py", place.root / "total"
    script.write_text("import sys\nprint(open(sys.argv[1]).read(), sys.argv[2:] == ['a b', ';', '$HOME'] and 'J' or 'W')")
    total.write_text("10")
    counter = External().open(place.site(command=f"{sys.executable} {script} {total} 'a b' ; $HOME"))
    total.write_text("12.5")
    assert counter.read() == pytest.approx(2.5)
    total.write_text("1")  # begun anew
    assert counter.read() == pytest.approx(3.5)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/no/such/meter", "No such file"),
        ("'", "No closing quotation"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "ended with code 3"),
        (f"{sys.executable} -c 'print(\"hello\")'", "expected a number of joules"),
    ],
)
def test_a_command_that_does_not_work_is_told(place: Place, command: str, why: str) -> None:
    with pytest.raises(OSError, match=why) as raised:
        External().open(place.site(command=command))
    assert not isinstance(raised.value, FileNotFoundError)


def test_a_command_that_hangs_is_killed_with_all_it_started(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_compress_meters.external.PATIENCE_SECONDS", 0.5)
    noted = place.root / "pid"
    began = time.monotonic()
    with pytest.raises(OSError, match=r"did not end within 0\.5 s"):
        External().open(place.site(command=f"sh -c 'sleep 60 & echo $! > {noted}; wait'"))
    assert time.monotonic() - began < 5
    sleeper = int(noted.read_text())
    while Path(f"/proc/{sleeper}").exists() and "Z" not in Path(f"/proc/{sleeper}/stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() - began < 10
        os.sched_yield()


class Answers(BaseHTTPRequestHandler):
    body, status = "", 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/energy?of=all"
        server.shutdown()


def test_a_url_gives_joules_or_watts(place: Place, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "body", '{"watts": 4.0}')
    counter = External().open(place.site(url=url))
    place.clocks.run(2.0)
    assert counter.read() == pytest.approx(8.0)
    monkeypatch.setattr(Answers, "body", "100\n")
    counter = External().open(place.site(url=url))
    monkeypatch.setattr(Answers, "body", '{"joules": 101.5}')
    assert counter.read() == pytest.approx(1.5)
    monkeypatch.setattr(Answers, "status", 503)
    with pytest.raises(OSError, match="answered 503"):
        counter.read()


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "1e999", "5 kWh", "{}", "[]", '{"joules": null}', '{"joules": -2}', '{"watts": NaN}']
)
def test_an_answer_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(OSError, match="the external meter answered"):
        reading(text)


def test_an_estimate_is_processor_time_times_watts(place: Place) -> None:
    place.cpu_seconds = 10.0
    counter = Estimate().open(place.site(watts_per_core=2.0))
    place.cpu_seconds += 0.25
    assert counter.read() == pytest.approx(0.5)
    assert (counter.scope, counter.shared) == ("process", False)
    for watts in (None, 0.0):
        with pytest.raises(FileNotFoundError):
            Estimate().open(place.site(watts_per_core=watts))
