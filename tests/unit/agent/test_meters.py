"""Which meter is taken, and how its owner hears why another one was not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_compress.agent.meters import AGAIN_SECONDS, Choice, in_order, open_first
from edge_compress.domain.energy import MeterSite
from edge_compress.errors import StartupError
from edge_compress.plugin.registry import Registry
from tests.unit.agent.played_meter import Played
from tests.unit.plugins.sysfs_trees import battery, laptop, orin_nano

OURS = list(Registry.load(only=["meters"]).energy_meters.values())


def test_meters_are_tried_in_order_and_those_of_other_processors_only_by_name() -> None:
    assert [meter.name for meter in in_order(OURS)] == ["rapl", "ina", "hwmon", "battery", "external", "estimate"]
    assert [meter.name for meter in in_order(OURS, "nvml")] == ["nvml"]
    with pytest.raises(StartupError, match="--meter wattson: there is no such meter; use auto or one of battery, estimate"):
        in_order(OURS, "wattson")


def test_a_strangers_meter_stands_with_those_of_its_source_and_takes_no_name() -> None:
    stranger, thief, odd = Played("plug", "external"), Played("rapl", "rapl"), Played("odd", "guess")
    assert [meter.name for meter in in_order([*OURS, stranger, thief, odd])][-3:] == ["external", "plug", "estimate"]
    assert thief not in in_order([*OURS, thief])


def test_the_first_that_works_is_taken(tmp_path: Path) -> None:
    def taken(**said: object) -> str | None:
        opened = open_first(in_order(OURS), MeterSite(tmp_path, **said))  # type: ignore[arg-type]
        return opened.label if opened else None

    assert taken() is None
    assert taken(watts_per_core=0.0) is None
    assert taken(watts_per_core=2.0) == "estimate/process"
    assert taken(watts_per_core=2.0, command="echo 5") == "external/device"
    battery(tmp_path, energy_now=1_000_000)
    assert taken(command="echo 5") == "battery/device"
    orin_nano(tmp_path)
    assert taken() == "ina/board"
    laptop(tmp_path)
    assert taken() == "rapl/package"


def test_what_an_owner_can_mend_is_told_once_and_what_is_not_there_is_not(caplog: pytest.LogCaptureFixture) -> None:
    refused, absent, broken, works = (Played(name) for name in ("refused", "absent", "broken", "works"))
    refused.missing = PermissionError(13, "only root may read it", "/sys/x")
    absent.missing = FileNotFoundError(2, "no such thing")
    broken.missing = ZeroDivisionError("by plugin")
    with caplog.at_level(logging.INFO):
        opened = open_first([refused, absent, broken, works], MeterSite())
    assert opened is not None
    assert opened.meter is works
    assert caplog.messages == ["no refused meter: /sys/x: only root may read it", "no broken meter: by plugin"]


def test_a_meter_that_was_asked_for_by_name_is_missed_aloud(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    assert open_first(in_order(OURS, "rapl"), MeterSite(tmp_path)) is None
    assert caplog.messages == [f"no rapl meter: {tmp_path}/sys/class/powercap: no RAPL package counter"]


def test_a_meter_that_stopped_working_gets_another_chance_after_a_while() -> None:
    plug, guess = Played("plug"), Played("guess", "estimate")
    choice = Choice([plug, guess])
    choice.took(plug, 0.0)
    assert not choice.again(AGAIN_SECONDS)
    choice.fell(plug)
    assert choice.left == [guess]
    choice.took(guess, 10.0)
    assert not choice.again(AGAIN_SECONDS)
    assert choice.again(10.0 + AGAIN_SECONDS)
    assert choice.left == [plug, guess]
    choice.took(guess, AGAIN_SECONDS + 10.0)  # it does not open yet
    assert not choice.again(AGAIN_SECONDS + 20.0)
    assert choice.again(2 * AGAIN_SECONDS + 10.0)


def test_where_no_better_one_ever_worked_none_is_looked_for_again() -> None:
    choice = Choice([Played("plug"), Played("guess", "estimate")])
    choice.took(None, 0.0)
    assert not choice.again(10 * AGAIN_SECONDS)
