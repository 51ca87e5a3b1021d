"""``top`` and a device's last hour: what they look like, and against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

from edge_compress.cli.glance import history_lines, overview_lines, sparkline
from edge_compress.domain.overview import (
    DeviceHistory,
    Figures,
    FleetOverview,
    HistoryPoint,
    ProfileOverview,
    RolloutOverview,
    VersionOverview,
)
from tests.integration.delivery_agent import WireAgent, usage
from tests.unit.cli.conftest import Command
from tests.unit.cli.server_process import ServerProcess

BUSY = Figures(12345.6, 0.25, 0.0034, 0.0012, "rapl")
OVERVIEW = FleetOverview(
    60.0,
    (
        ProfileOverview(
            "cam",
            {"Committed": 9800, "Disconnected": 150, "Fetching": 50},
            BUSY,
            tuple(VersionOverview("vision", f"{number:012x}", 2000 - number, BUSY) for number in range(6)),
        ),
        ProfileOverview("mcu", {"Idle": 1}),
    ),
    (RolloutOverview("vision-2", "Progressing", 2, 4, 0.1, "Pass", "step 2 of 4", {"Committed": 3}),),
)


def test_the_fleet_fits_eighty_columns() -> None:
    lines = overview_lines(OVERVIEW, 0.0)
    assert max(map(len, lines)) <= 80
    assert "10001 devices, 9851 connected" in lines[0]
    assert lines[3].split() == ["cam", "10000", "12346", "3.4", "ms", "1.2", "mJ", "0.25"]
    assert lines[4] == "  9800 Committed, 150 Disconnected, 50 Fetching; 2 more versions"
    assert lines[5].split()[:4] == ["vision", "0" * 12, "2000", "12346"]
    assert [line.split()[:2] for line in lines[9:11]] == [["mcu", "1"], ["1", "Idle"]]
    assert lines[-1].split()[:5] == ["vision-2", "Progressing", "2/4", "(10%)", "Pass"]


def test_an_empty_fleet_says_so() -> None:
    assert overview_lines(FleetOverview(), 0.0)[-1] == "no device has joined yet"


def test_a_sparkline_begins_at_zero_and_leaves_gaps() -> None:
    assert sparkline([0.0, None, 0.5, 1.0]) == "▁ ▅█"
    assert sparkline([None, 0.0]) == " ▁"
    assert sparkline([]) == ""


def test_the_last_hour_tells_its_span() -> None:
    points = (HistoryPoint(0.0), HistoryPoint(60.0, 0.004), HistoryPoint(120.0), HistoryPoint(180.0, 0.008))
    said = history_lines(DeviceHistory(points))
    assert said == ["Last 3 minutes, mean of an inference in each:", "  latency: 4 ms to 8 ms, last 8 ms", "    ▅ █"]
    assert history_lines(DeviceHistory((HistoryPoint(0.0),))) == []


def test_top_and_describe_show_what_a_device_reported(cli: Command, server: ServerProcess, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("kind: DeviceProfile\nmetadata: {name: glance}\n")
    assert cli(["apply", "-f", str(fleet)]).code == 0

    async def report() -> None:
        async with WireAgent(int(server.address.rpartition(":")[2]), "glance-1", "glance") as agent:
            await agent.report(usage(100, joules=1.0))

    asyncio.run(report())
    shown = cli(["top", "--once"])
    assert shown.code == 0
    assert "glance" in shown.out
    told = json.loads(cli(["top", "--once", "-o", "json"]).out)
    (profile,) = [one for one in told["profiles"] if one["profile"] == "glance"]
    assert sum(profile["devices"].values()) == 1
    assert [one["version"] for one in profile["versions"]] == ["v1"]
    assert profile["recent"]["inferences_per_second"] > 0
    assert profile["recent"]["errors_per_second"] == 0
    described = cli(["describe", "device", "glance-1"]).out
    assert "Last minute" in described or "Last 2 minutes" in described
    assert "latency" in described
    assert "last 10 mJ" in described


def test_a_wrong_output_is_a_usage_error(cli: Command) -> None:
    shown = cli(["top", "-o", "yml"])
    assert (shown.code, "--output" in shown.err) == (2, True)


def test_top_ends_quietly_at_ctrl_c_on_a_terminal(server: ServerProcess) -> None:
    ours, theirs = pty.openpty()
    with top(server, theirs) as process:
        said = b""
        while b"devices" not in said:
            said += os.read(ours, 100_000)
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read()) == (0, b"")
    assert b"\x1b[?1049h" in said  # the other screen, which is left again
    assert b"\x1b[?1049l" in os.read(ours, 100_000)
    os.close(ours)
    os.close(theirs)


def test_top_prints_plain_lines_where_there_is_no_terminal(server: ServerProcess) -> None:
    with top(server, subprocess.PIPE) as process:
        assert b"devices" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read()) == (0, b"")
        assert b"\x1b" not in process.stdout.read()


def top(server: ServerProcess, out: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge_compress", "top", "--server", server.address]
    return subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"})
