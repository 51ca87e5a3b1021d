"""A real Prometheus scrapes the metrics of a server that real agents report to, and answers the questions a user asks."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.delivery_agent import WireAgent, usage
from tests.integration.delivery_server import DeliveryServer, declare

pytestmark = pytest.mark.prometheus
LABELS = "profile, model, version"


class Prometheus:
    """A Prometheus process on loopback."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = _free_port()
        config = folder / "prometheus.yml"
        job = {"job_name": "edge-compress", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def query(self, expression: str) -> list[dict]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    def value(self, expression: str) -> float | None:
        """The one value of an expression; None while there is none, or while Prometheus starts."""
        try:
            result = self.query(expression)
        except (urllib.error.URLError, ConnectionError):
            return None
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DeliveryServer]:
    if shutil.which("prometheus") is None:
        pytest.skip("Debian's prometheus package is not installed")
    made = DeliveryServer(tmp_path / "state")
    declare(made.store, "DeviceProfile", "cam")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def prometheus(tmp_path: Path, server: DeliveryServer) -> Iterator[Prometheus]:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    made = Prometheus(folder, server.http.port)
    yield made
    made.stop()


async def until(answer: Callable[[], float | None], good: Callable[[float], bool]) -> float:
    deadline = time.monotonic() + 60
    while True:
        value = await asyncio.to_thread(answer)
        if value is not None and good(value):
            return value
        assert time.monotonic() < deadline, value
        await asyncio.sleep(0.2)


async def test_prometheus_answers_what_a_user_asks(server: DeliveryServer, prometheus: Prometheus) -> None:
    async with WireAgent(server.port, "cam-1") as one, WireAgent(server.port, "cam-2") as other:
        reporting = asyncio.create_task(_report_for_ever(one, other))
        rate = f"sum by ({LABELS}) (rate(edge_compress_inferences_total{{outcome='ok'}}[10s]))"
        assert math.isfinite(await until(lambda: prometheus.value(rate), lambda value: value > 0))
        p95 = f"histogram_quantile(0.95, sum by (le, {LABELS}) (rate(edge_compress_inference_duration_seconds_bucket[10s])))"
        # Inferences of 3 ms fall into the bucket between 2.89 and 4.34 ms, of which the 95th percentile lies near the top.
        seconds = await until(lambda: prometheus.value(p95), math.isfinite)
        assert 0.002 < seconds < 0.005
        joules = (
            f"sum by ({LABELS}) (rate(edge_compress_energy_joules_total[10s]))"
            f" / sum by ({LABELS}) (rate(edge_compress_inferences_total[10s]))"
        )
        assert await until(lambda: prometheus.value(joules), math.isfinite) == pytest.approx(0.1, rel=0.05)
        assert await until(lambda: prometheus.value("sum(edge_compress_devices{state='Idle'})"), lambda value: value == 2)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
    assert await until(lambda: prometheus.value("edge_compress_devices{state='Disconnected'}"), lambda value: value == 2)
    (series,) = await asyncio.to_thread(prometheus.query, "edge_compress_inferences_total")
    assert series["metric"].items() >= {"profile": "cam", "model": "vision", "version": "v1", "outcome": "ok"}.items()
    resets = await asyncio.to_thread(prometheus.value, "resets(edge_compress_inferences_total[5m])")
    assert resets == 0


async def _report_for_ever(*agents: WireAgent) -> None:
    count = 0
    while True:
        count += 10
        for agent in agents:
            await agent.report(usage(count, 0.003, joules=count * 0.1))
        await asyncio.sleep(0.1)
