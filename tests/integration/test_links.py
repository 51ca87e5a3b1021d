"""Metered links, slow links and devices that are not what their profile says, with real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.real_fleet import Fleet, until
from tests.integration.test_rollouts import sent

METERED = "{precisions: [fp32, fp16, int8], rate: 20/s, memory: 500Ti, link: {metered: true, update_rate: 100Mbit}}"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, profile=METERED)
    try:
        made.declare()
        made.start_agent("cam-1")
        yield made
    finally:
        made.stop()


def test_metered_links_carry_differences_only_and_a_smaller_device_gets_what_is_made_for_it(fleet: Fleet) -> None:
    until(lambda: len(fleet.devices()) == 1)
    fleet.apply("prune.magnitude", "{}", "{ratio: 0.1}")
    until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
    device = fleet.devices()["cam-1"]
    assert device["drift"][0].startswith("the profile lets models add 500Ti of memory, the device has ")
    assert device["made_for"].startswith("cam-as-")
    shown = fleet.done("describe", "deployment", "digits")
    assert "ProfileDrift" in shown
    assert f"they get what is made for {device['made_for']}" in shown
    whole = sent(fleet, "full")
    assert whole > 1e5, "a first version comes whole"

    fleet.apply("quantize.float16", "{soak: 1s}")
    until(lambda: fleet.rollout("digits-2")["devices"] == {"Metered": 1})
    assert sent(fleet, "full") == whole
    assert "1 on metered links wait: the new version differs too much from what they run" in fleet.done(
        "rollout", "why", "digits"
    )
    plan = json.loads(fleet.done("plan", "-f", str(fleet.folder / "fleet.yaml"), "-o", "json"))
    (pair,) = [pair for pair in plan["pairs"] if pair.get("devices")]
    assert pair["profile"] == device["made_for"]
    assert (pair["held"], pair.get("metered_bytes", 0)) == (1, 0)
    assert pair["update_bytes"] > 0.75 * pair["download_bytes"]

    fleet.apply("prune.magnitude", "{soak: 2s}", "{ratio: 0.11}")
    until(lambda: fleet.rollout("digits-3")["state"] == "Completed")
    assert sent(fleet, "full") < whole + 3000, "what is new of the golden vectors"
    assert 0 < sent(fleet, "delta") < 0.5 * whole
