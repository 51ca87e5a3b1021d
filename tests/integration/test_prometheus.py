"""A real Prometheus scrapes the metrics of a server that real agents report to, and answers the questions a user asks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.delivery_agent import WireAgent, usage
from tests.integration.delivery_server import DeliveryServer, declare
from tests.integration.prometheus import Prometheus, skip_unless_installed

pytestmark = pytest.mark.prometheus
LABELS = "profile, model, version"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DeliveryServer]:
    skip_unless_installed()
    made = DeliveryServer(tmp_path / "state")
    declare(made.store, "DeviceProfile", "cam")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def prometheus(tmp_path: Path, server: DeliveryServer) -> Iterator[Prometheus]:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    made = Prometheus(folder, f"127.0.0.1:{server.http.port}")
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
