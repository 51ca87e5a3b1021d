"""What an agent may say, and what of it is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_compress.agent.report import BOUNDS
from edge_compress.domain.fleet import DeviceState
from edge_compress.domain.session import LATENCY_BOUNDS, EnergyReading, Hello, Move, UsageReport
from edge_compress.errors import InvalidInput

HELLO = {"device": "cam-1", "profile": "cam", "boot_id": "b1"}
REPORT = {"boot_id": "b1", "model": "vision", "version": "abc"}


def test_agents_count_in_the_fleets_buckets() -> None:
    assert BOUNDS == LATENCY_BOUNDS


def test_a_device_without_a_state_is_idle() -> None:
    assert Hello(**HELLO).device_state is DeviceState.IDLE
    assert Hello(**HELLO, state="Trial").device_state is DeviceState.TRIAL


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", ""),
        ("device", "../etc"),
        ("profile", "Not A Name"),
        ("boot_id", ""),
        ("boot_id", "x" * 200),
        ("labels", {"": "x"}),
        ("labels", {f"k{index}": "v" for index in range(100)}),
        ("current_sha256", "abc"),
        ("state", "Flying"),
        ("assignment", "two words"),
    ],
)
def test_a_hello_that_makes_no_sense_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput):
        Hello(**{**HELLO, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("assignment", ""),
        ("state", ""),
        ("state", "Done"),
        ("p95_seconds", -1.0),
        ("p95_seconds", math.nan),
        ("peak_memory_bytes", -1),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=field):
        Move(**{"assignment": "r-1.abc", "state": "Trial", field: value})


def test_the_message_of_a_move_is_one_short_line() -> None:
    assert Move("r-1.abc", "RolledBack", message="a\n b " + "c" * 1000).message == ("a b " + "c" * 1000)[:500]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"boot_id": ""}, "boot_id"),
        ({"model": ""}, "model"),
        ({"version": 'x"} 1'}, "version"),
        ({"cohort": "x" * 200}, "cohort"),
        ({"inferences": {"ok": -1}}, "inferences"),
        ({"inferences": {"maybe": 1}}, "inferences"),
        ({"inferences": {"ok": 2**60}}, "inferences"),
        ({"duration_sum": math.inf}, "duration_sum"),
        ({"duration_sum": -0.1}, "duration_sum"),
        ({"bucket_bounds": (0.1, 0.2), "bucket_counts": (1, 2)}, "bucket_counts"),
        ({"bucket_counts": (1,)}, "bucket_counts"),
        ({"bucket_bounds": (0.2, 0.1), "bucket_counts": (1, 1, 1)}, "bucket_bounds"),
        ({"bucket_bounds": (0.1, math.nan), "bucket_counts": (1, 1, 1)}, "bucket_bounds"),
        ({"bucket_bounds": (0.1,), "bucket_counts": (1, -1)}, "bucket_counts"),
        ({"bucket_bounds": tuple(range(64)), "bucket_counts": (0,) * 65}, "bucket_counts"),
        ({"energy": (EnergyReading("rapl", "package", 1.0),) * 2}, "energy"),
        ({"peak_memory_bytes": -1}, "peak_memory_bytes"),
    ],
)
def test_a_report_that_makes_no_sense_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        UsageReport(**{**REPORT, **change})


@pytest.mark.parametrize(
    ("source", "scope", "joules"), [("guess", "board", 1.0), ("rapl", "", 1.0), ("rapl", "board", -1.0), ("rapl", "b", math.nan)]
)
def test_an_energy_reading_that_makes_no_sense_is_refused(source: str, scope: str, joules: float) -> None:
    with pytest.raises(InvalidInput, match="energy"):
        EnergyReading(source, scope, joules)
