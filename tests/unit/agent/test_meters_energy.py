"""When the meter is read, what a suspend or a failure does, and that one inference is on one meter only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from edge_compress_meters.estimate import Estimate

from edge_compress.agent.energy import Energy
from edge_compress.agent.report import Reports
from edge_compress.errors import StartupError
from tests.unit.agent.played_meter import Played
from tests.unit.plugins.sysfs_trees import Clocks


class Device:
    """An agent's energy on a device whose clocks and meters are played."""

    def __init__(self, *meters: Played | Estimate, wanted: str = "auto") -> None:
        self.clocks, self.reports = Clocks(), Reports("boot")
        self.subject = self.reports.subject("vision", "1", "")
        self.energy = Energy(
            self.reports,
            (wanted, "", ""),
            Path("/nowhere"),
            lambda: list(meters),
            lambda: self.clocks.awake,
            lambda: self.clocks.booted,
        )

    @property
    def billed(self) -> dict[str, float]:
        return dict(self.reports.totals(self.subject).energy)

    def infer(self, meter: Played | None = None, joules: float = 0.0, seconds: float = 0.5, cpu_seconds: float = 0.5) -> None:
        self.energy.begins()
        self.clocks.run(seconds)
        if meter is not None:
            meter.joules += joules
        self.energy.ends(self.subject, seconds, cpu_seconds)

    async def idle(self, meter: Played, watts: float, seconds: float = 1.0) -> None:
        """Beginning with the moment in which a quick counter shows all of the last inference."""
        await asyncio.sleep(0.01)
        self.clocks.run(seconds)
        meter.joules += watts * seconds

    @asynccontextmanager
    async def running(self, watts_per_core: float | None = None) -> AsyncIterator[None]:
        task = asyncio.create_task(self.energy.run())
        self.energy.declare(watts_per_core)
        try:
            await soon(lambda: self.energy.label is not None)
            yield
            await asyncio.sleep(0.01)  # the last window ends
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def soon(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


async def learn(device: Device, meter: Played, watts: float) -> None:
    """The idle draw, by gaps between inferences that fail."""
    for _ in range(4):
        await device.idle(meter, watts)
        device.energy.begins()
        device.clocks.run(0.5)
        meter.joules += watts * 0.5
        device.energy.ends(None)


async def test_a_quick_counter_is_read_around_each_inference() -> None:
    meter = Played("rapl", "rapl", quick=True)
    device = Device(meter)
    async with device.running():
        await learn(device, meter, 10.0)
        device.infer(meter, 10.0 * 0.5 + 2.0)
        await device.idle(meter, 10.0, 7.0)
        device.infer(meter, 10.0 * 0.5 + 2.0)
    assert device.billed == {"rapl/device": pytest.approx(4.0)}
    assert meter.closed == 1


async def test_energy_per_inference_is_what_is_above_the_idle_draw() -> None:
    meter = Played("rapl", "rapl", quick=True)
    device = Device(meter)
    async with device.running():
        for _ in range(20):
            await device.idle(meter, 10.0)
            device.infer(meter, 10.0 * 0.5 + 2.0)
    assert device.billed["rapl/device"] == pytest.approx(20 * 2.0)


async def test_what_a_quick_counter_shows_late_is_billed_and_not_taken_for_the_idle_draw() -> None:
    """It lags half a step on average: of inferences shorter than a step it would lose most."""
    meter = Played("rapl", "rapl", quick=True)
    device = Device(meter)
    async with device.running():
        await learn(device, meter, 10.0)
        for _ in range(10):
            device.infer(meter, 10.0 * 0.5 + 0.2)
            meter.joules += 1.8
            await device.idle(meter, 10.0)
            assert device.energy._ledger.idle_watts == pytest.approx(10.0)
    assert device.billed == {"rapl/device": pytest.approx(20.0)}


async def test_inferences_that_follow_each_other_at_once_share_a_window() -> None:
    meter = Played("rapl", "rapl", quick=True)
    device = Device(meter)
    async with device.running():
        await learn(device, meter, 10.0)
        for _ in range(5):
            device.infer(meter, 10.0 * 0.002 + 0.01, seconds=0.002)
        assert not device.billed
        await device.idle(meter, 10.0)
    assert device.billed == {"rapl/device": pytest.approx(0.05)}


async def test_while_a_candidate_is_probed_inferences_are_owed() -> None:
    meter = Played("rapl", "rapl", quick=True)
    device = Device(meter)
    async with device.running():
        for turn in range(10):
            device.energy.disturbed = lambda turn=turn: turn == 5
            await device.idle(meter, 60.0 if turn == 5 else 10.0)
            device.infer(meter, 10.0 * 0.5 + (40.0 if turn == 5 else 2.0))
            await device.idle(meter, 10.0)
    assert device.billed == {"rapl/device": pytest.approx(10 * 2.0)}


async def test_a_suspended_device_is_not_billed_for_its_sleep_and_what_ran_is_paid_later() -> None:
    meter = Played("rapl", "rapl", quick=True)
    device = Device(meter)
    async with device.running():
        for turn in range(20):
            await device.idle(meter, 10.0)
            if turn == 10:
                device.clocks.sleep(3600.0)
                meter.joules += 500.0
            device.infer(meter, 10.0 * 0.5 + 2.0)
            if turn == 15:
                device.energy.begins()
                device.clocks.run(0.5)
                device.clocks.sleep(60.0)
                meter.joules += 900.0
                device.energy.ends(device.subject, 0.5, 0.5)
    assert device.billed["rapl/device"] == pytest.approx(21 * 2.0)


async def test_a_counter_that_was_not_read_in_time_may_have_lost_something() -> None:
    meter = Played("rapl", "rapl", quick=True)
    device = Device(meter)
    async with device.running():
        await learn(device, meter, 10.0)
        await device.idle(meter, 0.001, seconds=3600.0)
        device.infer(meter, 5.0)
        assert device.energy._ledger.idle_watts == pytest.approx(10.0)


async def test_a_slow_counter_is_read_now_and_then_aside() -> None:
    meter = Played()
    meter.sample_seconds = 0.01
    device = Device(meter)
    async with device.running():
        assert device.energy.rests()
        for _ in range(3):
            before = device.energy._idle_at
            await device.idle(meter, 2.0)
            await soon(lambda before=before: device.energy._idle_at > before)
        assert not device.energy.rests()
        device.infer(meter, 2.0 * 0.5 + 3.0)
        await device.idle(meter, 2.0, 0.2)
        await soon(lambda: device.billed)
    assert device.billed == {"external/device": pytest.approx(3.0)}


async def test_self_tests_rest_only_so_long_and_so_often() -> None:
    meter = Played()
    device = Device(meter)
    async with device.running():
        assert device.energy.rests()
        device.clocks.run(119.0)
        assert device.energy.rests()
        device.clocks.run(2.0)
        assert not device.energy.rests()
        device.clocks.run(480.0)
        assert device.energy.rests()


@pytest.mark.parametrize("quick", [True, False])
async def test_a_meter_that_stops_working_is_left_for_the_next_and_its_counter_stays(
    quick: bool, caplog: pytest.LogCaptureFixture
) -> None:
    meter = Played("plug", "external", quick=quick)
    meter.shared, meter.sample_seconds = False, 0.01
    device = Device(meter, Estimate())
    async with device.running(watts_per_core=2.0):
        device.infer(meter, 3.0)
        device.clocks.run(0.2)
        await soon(lambda: device.billed)
        meter.failure = OSError("unplugged")
        device.infer(meter, 3.0, cpu_seconds=0.5)
        await soon(lambda: device.energy.label == "estimate/process")
        device.infer(cpu_seconds=0.5)
    assert device.billed == {"external/device": pytest.approx(3.0), "estimate/process": pytest.approx(2.0)}  # 1 J, and 1 J owed
    assert "the plug meter stopped working: unplugged" in caplog.messages
    assert meter.closed == 1


async def test_without_a_meter_nothing_is_billed_until_watts_are_declared() -> None:
    device = Device(Estimate())
    task = asyncio.create_task(device.energy.run())
    try:
        device.energy.declare(None)
        device.infer()
        await asyncio.sleep(0.05)
        assert device.energy.label is None
        assert not device.billed
        device.energy.declare(2.0)
        await soon(lambda: device.energy.label)
        device.infer(cpu_seconds=0.25)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert device.billed == {"estimate/process": pytest.approx(1.0)}


async def test_a_new_welcome_does_not_begin_a_working_meter_anew() -> None:
    meter = Played()
    device = Device(meter)
    async with device.running(watts_per_core=1.0):
        device.energy.declare(1.0)
        device.energy.declare(2.0)
        await asyncio.sleep(0.02)
    assert meter.opened == 1


async def test_a_meter_of_no_plugin_ends_the_agent_with_the_names_there_are() -> None:
    device = Device(Estimate(), wanted="wattson")
    device.energy.declare(None)
    with pytest.raises(StartupError, match="use auto or one of estimate"):
        await asyncio.wait_for(device.energy.run(), 5)
