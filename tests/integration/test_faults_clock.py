"""Wall clocks that are set by days while updates are under way: deadlines, soaks and the order of versions go by what really
passed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.quick_fleet import SECOND_CHUNK, QuickFleet, quick_fleet, until

NAMES = ("cam-1", "cam-2")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[QuickFleet]:
    with quick_fleet(tmp_path, jumping=("server", *NAMES)) as made:
        for name in NAMES:
            made.start_agent(name)
        made.deploy("first")
        made.comes_to("vision-1", "Completed")
        made.all_run("first")
        yield made


def passes(fleet: QuickFleet, days: float) -> None:
    """Set the server's clock, and wait until it has looked at everything again: a new deployment has got its rollout."""
    fleet.jump(days, "server")
    name = f"marker-{'back' if days < 0 else 'ahead'}-{abs(days):g}"
    fleet.apply("DeviceProfile", name)
    fleet.deploy("first", name, profile=name)
    until(lambda: fleet.rollout(f"{name}-1"), "the server looked")


def fetching(fleet: QuickFleet) -> str:
    """Name of the one device that is in the middle of a download."""
    until(lambda: [name for name in NAMES if fleet.held(name)], "one of them fetches")
    (canary,) = [name for name in NAMES if fleet.held(name)]
    return canary


@pytest.mark.parametrize("days", [1, -1])
def test_devices_that_are_at_work_are_not_timed_out_by_a_clock_that_is_set(fleet: QuickFleet, days: float) -> None:
    for link in fleet.links.values():
        link.hold_after(SECOND_CHUNK)
    fleet.deploy("large", steps=["50%", "100%"], min_executed=1, device_deadline="10m")
    fetching(fleet)
    passes(fleet, days)
    for link in fleet.links.values():
        link.flow()
    fleet.comes_to("vision-2", "Completed")
    fleet.all_run("large")
    assert fleet.rollout("vision-2").devices == {"Committed": 2}


def test_a_clock_that_is_set_forwards_ends_no_soak_and_one_set_back_does_not_prolong_it(fleet: QuickFleet) -> None:
    fleet.deploy("second", steps=["50%", "100%"], min_executed=1, soak="1h")
    half = {"Committed": 1, "Waiting": 1}
    until(lambda: fleet.rollout("vision-2") and fleet.rollout("vision-2").devices == half, "a canary soaks")
    passes(fleet, 2)
    assert fleet.rollout("vision-2").devices == half
    fleet.deploy("third", steps=["50%", "100%"], min_executed=1, soak="1s")
    until(lambda: fleet.rollout("vision-3") and fleet.rollout("vision-3").devices.get("Committed") == 1, "a canary soaks")
    passes(fleet, -2)
    fleet.comes_to("vision-3", "Completed")
    fleet.all_run("third")


def test_after_a_clock_was_set_back_silence_is_noticed_and_devices_go_back_to_the_newest_good_version(fleet: QuickFleet) -> None:
    passes(fleet, -2)
    fleet.deploy("second")
    fleet.comes_to("vision-2", "Completed")
    for link in fleet.links.values():
        link.hold_after(SECOND_CHUNK)
    fleet.deploy("large", steps=["50%", "100%"], min_executed=1, device_deadline="2s")
    canary = fetching(fleet)
    passes(fleet, -4)
    fleet.agents[canary].process.send_signal(signal.SIGSTOP)
    fleet.comes_to("vision-3", "Aborted")
    assert fleet.rollout("vision-3").devices == {"TimedOut": 1, "Waiting": 1}
    fleet.end_server()
    fleet.jump(-6, "server")
    fleet.start_server()
    fleet.agents[canary].process.send_signal(signal.SIGCONT)
    for link in fleet.links.values():
        link.flow()
    fleet.all_run("second")


def test_a_device_whose_clock_is_set_goes_on_counting_and_updating(fleet: QuickFleet) -> None:
    counted = fleet.inferences()
    for days, recipe in ((3, "second"), (-3, "third")):
        fleet.jump(days, *NAMES)
        until(lambda before=counted: fleet.inferences() > before, "inferences go on")
        fleet.deploy(recipe)
        fleet.all_run(recipe)
        assert fleet.inferences() >= counted, "a total never falls"
        counted = fleet.inferences()
    for name in NAMES:
        fleet.agents[name].kill()
        fleet.jump(-30, name)
        fleet.start_agent(name)
    until(lambda: fleet.inferences() > counted, "and after a restart")
    fleet.all_run("third")
