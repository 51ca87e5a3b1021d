"""Hollow agents against a real server: they join, take updates, fail and fall silent as they are told to."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.real_fleet import Crowd, Fleet, until


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        made.declare()
        yield made
    finally:
        made.stop()


def test_a_bad_update_reaches_one_steps_devices_and_a_good_one_all(fleet: Fleet) -> None:
    crowd = Crowd(fleet, "--agents", "40", "--processes", "2", "--failing", "20%", "--seed", "1", "--report", "1s")
    try:
        until(lambda: crowd.last()["connected"] == 40)
        fleet.apply("quantize.float16", "{}")
        until(lambda: crowd.last()["states"] == {"Committed": 40})
        assert crowd.last()["corrupt"] == 0
        assert crowd.last()["downloaded"] > 40 * 100_000
        until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
        fleet.apply("quantize.weights", "{steps: [50%, 100%], min_executed: 5}")
        until(lambda: fleet.rollout("digits-2")["state"] == "Aborted")
        tried = fleet.rollout("digits-2")["devices"]
        assert tried["Waiting"] == 20, "nobody beyond the first step"
        assert tried["RolledBack"] >= 1
        first = fleet.done("get", "rollout", "digits-1", "-o", "json")
        artifact = json.loads(first)["spec"]["artifacts"]["cam"]
        until(lambda: {status["artifact"] for status in fleet.devices().values()} == {artifact})
    finally:
        crowd.stop()


def test_devices_that_fall_silent_time_out_and_a_restarted_server_finds_all_again(fleet: Fleet) -> None:
    crowd = Crowd(fleet, "--agents", "20", "--silent", "100%", "--no-download")
    try:
        until(lambda: crowd.last()["connected"] == 20)
        fleet.apply("quantize.float16", "{}")
        until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
        fleet.server.kill()
        fleet.server.start()
        until(lambda: crowd.last()["sessions"] == 40)
        assert crowd.last()["sessions"] == 40
        assert crowd.last()["states"] == {"Committed": 20}
        fleet.apply("quantize.weights", "{steps: [10%, 100%], device_deadline: 3s}")
        until(lambda: fleet.rollout("digits-2")["state"] == "Aborted")
        assert fleet.rollout("digits-2")["devices"] == {"TimedOut": 2, "Waiting": 18}
    finally:
        crowd.stop()


def test_batches_of_reports_count_for_each_cohort(fleet: Fleet) -> None:
    crowd = Crowd(fleet, "--agents", "3", "--install", "0s", "--no-download", "--report", "1s", "--batch", "4")
    try:
        until(lambda: crowd.last()["connected"] == 3)
        fleet.apply("quantize.float16", "{}")
        until(lambda: crowd.last()["reports"] >= 3 * 4 * 2)

        def counted() -> dict[str, float]:
            with urllib.request.urlopen(f"http://{fleet.server.metrics}/metrics") as answer:
                text = answer.read().decode()
            found = re.findall(r'^edge_compress_inferences_total\{.*cohort="([^"]*)".*\} (\S+)$', text, re.M)
            assert "edge_compress_reports_dropped_total{" not in text
            return {cohort: float(count) for cohort, count in found}

        until(lambda: len(counted()) == 4)
        assert counted().keys() == {"", "part-1", "part-2", "part-3"}
        assert min(counted().values()) > 0
    finally:
        crowd.stop()
