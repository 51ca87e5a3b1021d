"""What happens in the demo, act by act, with no printing: a server, a fleet applied, jobs, agents, reports, metrics.

Everything goes the way a user goes: ``edge-compress`` processes, the Python client, HTTP for the metrics. ``cli.demo`` shows it.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_compress.client import Client
from edge_compress.demo.cast import Cast, free_address, until
from edge_compress.demo.scene import MODEL
from edge_compress.domain.resource import Stored
from edge_compress.errors import StartupError, Unavailable
from edge_compress.report_page import write_report

START_SECONDS, JOBS_SECONDS, AGENTS_SECONDS = 30.0, 240.0, 60.0
ENOUGH_INFERENCES = 40
BUSY = ("--self-test-rate", "20/s", "--report", "1s")
"""how agents are told to show within seconds what would otherwise take a minute at the profile's own rate"""
FINAL_JOBS = frozenset({"Succeeded", "Infeasible", "Failed", "Cancelled"})
EXPECTED = {"hub": "FEASIBLE", "cam": "FEASIBLE", "meter": "FEASIBLE", "pendant": "INFEASIBLE"}
"""verdict that each profile of ``fleet.yaml`` must get: three can be served, one asks for what no network can do"""
SHOWN_SERIES = (
    "inference_duration_seconds",
    "inferences_total",
    "energy_joules_total",
    "devices",
    "transfer_bytes_total",
    "rollout_devices",
    "jobs",
    "job_duration_seconds",
)
"""series that ``/metrics`` must have at the end, without their prefix"""
_SAMPLE = re.compile(r"^edge_compress_(\w+?)(?:_bucket|_count|_sum)?(\{.*\})? (\S+)$")


@dataclass(frozen=True)
class Server:
    """Where the demo's server answers."""

    address: str
    metrics: str


@dataclass(frozen=True)
class Scrape:
    """What ``/metrics`` said: samples per series, and inferences and joules per profile."""

    samples: Mapping[str, int] = field(default_factory=dict)
    inferences: Mapping[str, float] = field(default_factory=dict)
    joules: Mapping[str, float] = field(default_factory=dict)

    def missing(self, profiles: Iterable[str]) -> list[str]:
        """Series that are not there and should be, and profiles with too few inferences or no energy."""
        silent = [name for name in profiles if self.inferences.get(name, 0) < ENOUGH_INFERENCES or not self.joules.get(name)]
        return [name for name in SHOWN_SERIES if name not in self.samples] + sorted(silent)


def start_server(cast: Cast, state: Path) -> Server:
    """Start ``edge-compress server`` on free ports and wait until it answers. Raises StartupError when it does not."""
    server = Server(free_address(), free_address())
    cast.start(
        "server",
        "server",
        "--listen",
        server.address,
        "--metrics-listen",
        server.metrics,
        "--state",
        str(state),
        "--workers",
        "2",
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        cast.check()
        try:
            with Client(server.address, timeout=2.0) as client:
                client.plugins()
            return server
        except Unavailable:
            until(deadline, "the server to answer")


def follow_jobs(client: Client, cast: Cast) -> Iterator[list[Stored]]:
    """The model's jobs each time they are looked at, until each expected profile has a final one. Raises on a failed job."""
    deadline = time.monotonic() + JOBS_SECONDS
    while True:
        cast.check()
        jobs = list(client.list("Job"))
        yield jobs
        _refuse_failed(jobs)
        if {job.spec.profile for job in jobs if job.status.state in FINAL_JOBS} >= set(EXPECTED):
            return
        until(deadline, "the compression jobs to end")


def start_agents(cast: Cast, server: Server, state: Path, profiles: Iterable[str]) -> list[str]:
    """Start one agent process per profile; returns the device names."""
    names = []
    for profile in profiles:
        name = f"{profile}-01"
        where = ("--server", server.address, "--state", str(state / name))
        cast.start(name, "agent", "--profile", profile, "--name", name, "--labels", "site=demo", *BUSY, *where)
        names.append(name)
    return names


def follow_devices(client: Client, cast: Cast, names: Iterable[str]) -> Iterator[dict[str, Stored]]:
    """The devices each time they are looked at, until every one has committed and reported inferences and energy."""
    deadline, wanted = time.monotonic() + AGENTS_SECONDS, set(names)
    while True:
        cast.check()
        devices = {device.name: device for device in client.list("Device") if device.name in wanted}
        yield devices
        _refuse_rolled_back(devices.values())
        if wanted == {name for name, device in devices.items() if has_reported(device)}:
            return
        until(deadline, "the devices to commit and report")


def has_reported(device: Stored) -> bool:
    """Whether a device runs its artifact and has begun to say what that costs."""
    status = device.status
    said = status.inferences > 0 and status.p95_seconds is not None and status.joules_per_inference is not None
    return bool(status.state == "Committed" and said)


def journey(device: Stored) -> float:
    """How far a device is on its way to having committed and reported, 0 to 1."""
    states = ("Idle", "Preflight", "Fetching", "Verifying", "Staged", "Probing", "Trial", "Committed")
    reached = states.index(device.status.state) if device.status.state in states else 0
    return 1.0 if has_reported(device) else reached / len(states)


def scrape(server: Server, profiles: Iterable[str]) -> tuple[str, Scrape]:
    """The text of ``/metrics`` and what it shows. Raises StartupError when a series or a profile is missing."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        seen = read_metrics(text)
        if not (missing := seen.missing(profiles)):
            return text, seen
        until(deadline, f"/metrics to show {', '.join(missing)}")


def read_metrics(text: str) -> Scrape:
    """What a Prometheus exposition shows of this product."""
    samples: dict[str, int] = {}
    sums: dict[str, dict[str, float]] = {"inferences_total": {}, "energy_joules_total": {}}
    for line in text.splitlines():
        if (match := _SAMPLE.match(line)) is None:
            continue
        name, labels, value = match[1], match[2] or "", float(match[3])
        samples[name] = samples.get(name, 0) + 1
        for profile in re.findall(r'profile="([^"]*)"', labels) if name in sums else ():
            sums[name][profile] = sums[name].get(profile, 0.0) + value
    return Scrape(samples, sums["inferences_total"], sums["energy_joules_total"])


def write_results(client: Client, metrics: str, out: Path) -> dict[str, Any]:
    """Write artifacts, ``report.json``, ``report.html`` and ``metrics.txt`` under ``out``; returns the report."""
    out.mkdir(parents=True, exist_ok=True)
    entry = client.report(MODEL)
    entry["profiles"] = {name: entry["profiles"][name] for name in EXPECTED if name in entry["profiles"]}
    for profile, result in entry["profiles"].items():
        if result["sha256"]:
            result["artifact"] = f"{MODEL}/{profile}/model.onnx"
            target = out / result["artifact"]
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download(result["sha256"], target)
    report = {"models": {MODEL: entry}}
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / "metrics.txt").write_text(metrics, encoding="utf-8")
    write_report(report, out / "report.html")
    return report


def check_verdicts(report: Mapping[str, Any]) -> None:
    """Raise StartupError when a profile did not get the verdict it must get."""
    for profile, wanted in EXPECTED.items():
        result = report["models"][MODEL]["profiles"].get(profile) or {}
        if result.get("verdict") != wanted:
            raise StartupError(f"profile {profile} should be {wanted} and is {result.get('verdict')}: {result.get('gap')}")


def _refuse_failed(jobs: Iterable[Stored]) -> None:
    for job in jobs:
        if job.status.state in ("Failed", "Cancelled"):
            raise StartupError(f"job {job.name} {job.status.state.lower()}: {job.status.message}")


def _refuse_rolled_back(devices: Iterable[Stored]) -> None:
    for device in devices:
        if device.status.state == "RolledBack":
            raise StartupError(f"device {device.name} rolled back: {device.status.message}")
