"""What a scrape costs the server: ``make bench-metrics``, or ``python -m tests.bench.metrics``.

A real store, ledger and fleet in this process, filled through their own doors with devices that joined and reported, under 20
profiles with two artifacts each, most of them canaries; a scraper in another process asks as Prometheus does. Figures are this
process's processor time for a scrape, in milliseconds: the median of rounds, before each of which every device reports again.
Beside them the same data by prometheus_client's label children and by a plain collector, and what it costs to write the lines of
a device that changed. Nothing is too slow.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from wsgiref.simple_server import WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from edge_compress.api.v1 import agents_pb2
from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.observed import DeviceBoard, sources
from edge_compress.delivery.overview import Overview
from edge_compress.delivery.sessions import Session
from edge_compress.delivery.usage import UsageLedger
from edge_compress.device_metrics import DeviceFigures, DeviceMetrics
from edge_compress.domain.artifact import Artifact
from edge_compress.domain.job import JobSpec, JobStatus
from edge_compress.domain.schema import encode
from edge_compress.domain.session import LATENCY_BOUNDS, EnergyReading, Hello, UsageReport
from edge_compress.messages import to_message
from edge_compress.metrics import Metrics
from edge_compress.metrics_http import MetricsServer, QuietHandler
from edge_compress.store.interface import Store
from edge_compress.store.state import open_state
from tests.bench.metrics_peers import PlainDevices, PlainFleet, device_children, fleet_children
from tests.integration.delivery_server import artifact_of, declare

PROFILES, VERSIONS = 20, 2
GOALS = {"/metrics": 20, "/metrics/devices": 50}
"""milliseconds for 10,000 devices"""
_ROUNDS = 7
_AT_ONCE = 500
_SCRAPER = """
import http.client, sys
for line in sys.stdin:
    port, path, packing = line.split()
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    connection.request("GET", path, headers={"Accept-Encoding": packing, "Accept": "application/openmetrics-text;version=1.0.0"})
    answer = connection.getresponse()
    print(answer.status, len(answer.read()), flush=True)
"""


class Kept(DeviceMetrics):
    """Ours, which also keeps what it was told, for the peers."""

    def __init__(self, most_series: int) -> None:
        super().__init__(most_series)
        self.told: dict[str, DeviceFigures] = {}

    def show(self, device: DeviceFigures) -> None:
        self.told[device.device] = device
        super().show(device)


class Filled:
    """A server's delivery half with ``count`` devices, each connected, that reported."""

    def __init__(self, store: Store, count: int) -> None:
        self.store, self._count = store, count
        self._reported = 0
        self.metrics, self.devices = Metrics(), Kept(10**9)
        board = DeviceBoard(self.devices)
        self._ledger = UsageLedger(store, dropped=self.metrics.dropped, by_device=board.totals)
        self.fleet = Fleet(store, self._ledger, clock=store.clock)
        self.metrics.sources = sources(store, self.fleet, self._ledger)
        board.follow(self.fleet)
        self.overview = Overview(store, self.fleet.census, self._ledger)
        self._sessions: list[Session] = []
        self._versions = {
            (profile, version): artifact_of(f"{profile} {version}", f"p{profile}")
            for profile in range(PROFILES)
            for version in range(VERSIONS)
        }

    async def join(self) -> None:
        """Everything that is declared, and every device."""
        for profile in range(PROFILES):
            declare(self.store, "DeviceProfile", f"p{profile}")
        for (profile, version), artifact in self._versions.items():
            self.store.apply("Artifact", artifact.name, labels={}, spec=encode(artifact))
            job = JobSpec(f"{profile}-{version}", "vision", f"p{profile}")
            self.store.apply(
                "Job", f"job-{profile}-{version}", labels={}, spec=encode(job), status=encode(JobStatus("Succeeded"))
            )
        for start in range(0, self._count, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, self._count))
            self._sessions += await asyncio.gather(*(self.fleet.join(self._hello(number)) for number in some))

    async def report(self) -> None:
        """Every device tells its newest totals."""
        self._reported += 1
        for start in range(0, self._count, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, self._count))
            await asyncio.gather(*(self._report(number) for number in some))

    def _artifact(self, number: int) -> Artifact:
        return self._versions[number % PROFILES, number // PROFILES % VERSIONS]

    def _hello(self, number: int) -> Hello:
        artifact = self._artifact(number)
        return Hello(
            f"device-{number:05}",
            artifact.profile,
            "b1",
            current_sha256=artifact.sha256,
            assignment="vision-1.a",
            state="Committed",
        )

    async def _report(self, number: int) -> None:
        count = self._reported * 75 + number
        buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        for place in range(5, 20):
            buckets[place] = count // 15
        energy = (EnergyReading("estimate", "process", count * 0.0123456789),)
        artifact, cohort = self._artifact(number), "canary" if number % 3 else "control"
        outcomes = {"ok": sum(buckets), **({"error": number} if number % 10 == 1 else {})}
        report = UsageReport(
            "b1", "vision", artifact.version, cohort, outcomes, LATENCY_BOUNDS, tuple(buckets), count * 0.00345678, energy
        )
        await self.fleet.reported(self._sessions[number], self._reported, [report])


class Scraper:
    """Asks as Prometheus does, from a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRAPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def milliseconds(self, port: int, path: str, packing: str) -> tuple[float, int]:
        """Processor time of this process for one scrape, and the bytes that went out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began = time.process_time()
        self._process.stdin.write(f"{port} {path} {packing}\n")
        self._process.stdin.flush()
        status, size = map(int, self._process.stdout.readline().split())
        assert status == 200, path
        return (time.process_time() - began) * 1000, size

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Peer:
    """prometheus_client's own server on a registry."""

    registry: CollectorRegistry

    def __post_init__(self) -> None:
        self.server: WSGIServer = make_server("127.0.0.1", 0, make_wsgi_app(self.registry), handler_class=QuietHandler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()


def plain(collector: PlainFleet | PlainDevices) -> CollectorRegistry:
    """A registry with one collector."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def pages(filled: Filled) -> dict[str, dict[str, CollectorRegistry]]:
    """What the peers serve, by page."""
    devices = list(filled.devices.told.values())
    found = filled.metrics.sources
    return {
        "/metrics": {"a plain collector": plain(PlainFleet(found)), "label children": fleet_children(found)},
        "/metrics/devices": {"a plain collector": plain(PlainDevices(devices)), "label children": device_children(devices)},
    }


async def measure(count: int, scraper: Scraper) -> None:
    """The rows of one size of fleet."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_state(Path(folder))
        filled = Filled(store, count)
        await filled.join()
        await filled.report()
        filled.overview.tick()
        server = MetricsServer(filled.metrics, "127.0.0.1", 0, filled.devices)
        ours = await rounds(filled, scraper, server.port)
        for path, registries in pages(filled).items():
            for packing in PACKINGS[path]:
                row(count, path, packing, "ours", ours[path, packing], ours[path, packing])
                for name, registry in registries.items():
                    row(count, path, packing, name, peer(registry, scraper, path, packing), ours[path, packing])
        print(f"{count:7,} writing the lines of one device that changed: {written(filled.devices):.1f} us")
        print(f"{count:7,} the answer that top asks for: {glance(filled)}")
        server.close()
        store.close()


PACKINGS = {"/metrics": ("identity", "gzip"), "/metrics/devices": ("identity",)}


def written(devices: Kept) -> float:
    """Microseconds that it takes to write a device's lines."""
    told = list(devices.told.values())
    began = time.process_time()
    for device in told:
        DeviceMetrics.show(devices, device)
    return (time.process_time() - began) * 1e6 / len(told)


def glance(filled: Filled) -> str:
    """What the fleet at a glance costs."""
    filled.overview.read()
    began = time.process_time()
    answer = to_message(filled.overview.read(), agents_pb2.FleetOverview).SerializeToString()
    return f"{(time.process_time() - began) * 1000:.1f} ms, {len(answer):,} bytes"


async def rounds(filled: Filled, scraper: Scraper, port: int) -> dict[tuple[str, str], tuple[float, int]]:
    """Median milliseconds and bytes of our pages, all devices having reported between any two scrapes."""
    found: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for _ in range(_ROUNDS):
        await filled.report()
        for path, packings in PACKINGS.items():
            for packing in packings:
                found.setdefault((path, packing), []).append(scraper.milliseconds(port, path, packing))
    return {key: median(values) for key, values in found.items()}


def peer(registry: CollectorRegistry, scraper: Scraper, path: str, packing: str) -> tuple[float, int]:
    """Median milliseconds and bytes of a peer's page."""
    made = Peer(registry)
    found = median([scraper.milliseconds(made.port, path, packing) for _ in range(3)])
    made.close()
    return found


def median(values: list[tuple[float, int]]) -> tuple[float, int]:
    """The median time, and the last size."""
    return statistics.median(time for time, _ in values), values[-1][1]


def row(count: int, path: str, packing: str, name: str, figures: tuple[float, int], ours: tuple[float, int]) -> None:
    """One line of the table."""
    milliseconds, size = figures
    ratio = milliseconds / ours[0]
    goal = f"goal {GOALS[path]} ms" if name == "ours" and count == 10_000 else "" if name == "ours" else f"{ratio:.1f} times ours"
    print(f"{count:7,} {path:17}{packing:9} {name:18}{milliseconds:9.1f}{size:13,}   {goal}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[1_000, 10_000])
    scraper = Scraper()
    print(f"{'devices':>7} {'page':17}{'packed':9} {'by':18}{'CPU ms':>9}{'bytes':>13}")
    for count in parser.parse_args().devices:
        asyncio.run(measure(count, scraper))
    scraper.close()


if __name__ == "__main__":
    main()
