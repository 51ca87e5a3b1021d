"""Delivery over real gRPC: sessions, assignments, usage, and a server that is killed in between."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_compress.api.v1 import agents_pb2, agents_pb2_grpc, common_pb2
from edge_compress.errors import InUse, StartupError
from edge_compress.metrics import Metrics
from edge_compress.metrics_http import MetricsServer
from edge_compress.status import from_rpc_error
from edge_compress.store.state import open_state
from tests.integration.delivery_agent import WireAgent, usage
from tests.integration.delivery_server import DeliveryServer, declare, finish_jobs

ROOT = Path(__file__).parents[2]
TOTAL = "edge_compress_inferences_total"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DeliveryServer]:
    made = DeliveryServer(tmp_path / "state")
    declare(made.store, "DeviceProfile", "cam", latency_p95="200ms", threads=2, compute={"watts_per_core": "1.5W"})
    declare(made.store, "Model", "vision", source="vision.onnx")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def stub(server: DeliveryServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield agents_pb2_grpc.AgentServiceStub(channel)


async def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (value := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return value


def deploy(server: DeliveryServer, **rollout: Any) -> None:
    declare(server.store, "Deployment", "vision", model="vision", selector={"profiles": ["cam"]}, rollout=rollout)


async def published(server: DeliveryServer) -> None:
    await until(lambda: finish_jobs(server.store))


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


async def test_from_a_deployment_to_a_committed_device(server: DeliveryServer, stub: Any) -> None:
    deploy(server)
    async with WireAgent(server.port, "cam-1", labels={"site": "a"}) as agent:
        assert (agent.welcome.heartbeat_seconds, agent.welcome.watts_per_core) == (5.0, 1.5)
        await published(server)
        assignment = await agent.assigned()
        assert (assignment.latency_p95_seconds, assignment.threads, assignment.deployment) == (pytest.approx(0.2), 2, "vision")
        assert assignment.artifact == f"vision-{assignment.spec.sha256[:12]}"
        assert assignment.spec.golden.samples == 4
        await agent.commit(assignment)
        await until(lambda: server.store.get("Rollout", "vision-1").status["state"] == "Completed")
        device = await stub.GetDevice(common_pb2.GetRequest(name="cam-1"))
        assert (device.status.state, device.status.artifact, device.status.connected) == ("Committed", assignment.artifact, True)
        assert device.status.offered == assignment.id
    await until(lambda: not server.store.get("Device", "cam-1").status.get("connected", False))


def value(text: str, name: str, **labels: str) -> float:
    """The sum over the series of ``name`` that carry ``labels``."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    found = [sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()]
    assert found, (name, labels)
    return sum(found)


async def test_reports_are_acknowledged_and_show_in_the_metrics(server: DeliveryServer) -> None:
    async with WireAgent(server.port, "cam-1") as agent:
        await agent.report(usage(5, joules=0.5))
        await agent.report(usage(8, joules=0.8))
        text = await asyncio.to_thread(scraped, server.http.port)
    labels = {"profile": "cam", "model": "vision", "version": "v1", "cohort": ""}
    assert value(text, "edge_compress_inferences_total", **labels, outcome="ok") == 8
    assert value(text, "edge_compress_energy_joules_total", **labels, source="estimate", scope="process") == 0.8
    assert value(text, "edge_compress_inference_duration_seconds_count", **labels) == 8
    assert value(text, "edge_compress_inference_duration_seconds_sum", **labels) == pytest.approx(0.024)
    assert value(text, "edge_compress_devices", state="Idle") == 1


async def test_a_bad_report_is_dropped_and_counted_and_the_session_lives(server: DeliveryServer) -> None:
    async with WireAgent(server.port, "cam-1") as agent:
        bad = usage(5)
        bad.inferences["ok"] = -1
        odd = usage(5)
        odd.version = 'x"}\n'
        await agent.say(move=agents_pb2.Move(assignment="a", state="Flying"))
        await agent.say(hello=agent.hello)
        await agent.report(bad, odd, usage(3))
    assert [one.totals.inferences for one in server.ledger.series()] == [{"ok": 3}]
    assert 'edge_compress_reports_dropped_total{reason="invalid"} 4.0' in await asyncio.to_thread(scraped, server.http.port)


@pytest.mark.parametrize(
    ("message", "code", "named"),
    [
        ({"hello": agents_pb2.Hello(device="cam-1", profile="nobody", boot_id="b")}, "FAILED_PRECONDITION", "nobody"),
        ({"hello": agents_pb2.Hello(device="Not OK", profile="cam", boot_id="b")}, "INVALID_ARGUMENT", "hello.device"),
        ({"heartbeat": agents_pb2.Heartbeat()}, "INVALID_ARGUMENT", "hello"),
    ],
)
async def test_a_bad_beginning_is_refused(stub: Any, message: Any, code: str, named: str) -> None:
    call = stub.Session(timeout=10)
    await call.write(agents_pb2.AgentMessage(**message))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code().name == code
    assert named in refused.value.details()


async def test_the_newest_session_ends_the_older_one(server: DeliveryServer) -> None:
    async with WireAgent(server.port, "cam-1") as older, WireAgent(server.port, "cam-1", boot="boot-2") as newer:
        assert await older.ended() is grpc.StatusCode.ABORTED
        await newer.report(usage(1, boot="boot-2"))


async def test_devices_are_listed_watched_and_forgotten(server: DeliveryServer, stub: Any) -> None:
    watch = stub.WatchDevices(common_pb2.WatchRequest(), timeout=30)
    async with WireAgent(server.port, "cam-1"):
        event = await watch.read()
        assert (event.type, event.device.metadata.name) == (common_pb2.WATCH_EVENT_TYPE_ADDED, "cam-1")
        page = await stub.ListDevices(common_pb2.ListRequest())
        assert [device.metadata.name for device in page.devices] == ["cam-1"]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.DeleteDevice(common_pb2.DeleteRequest(name="cam-1"))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert isinstance(from_rpc_error(refused.value), InUse)
    await until(lambda: not server.fleet.live("cam-1"))
    await stub.DeleteDevice(common_pb2.DeleteRequest(name="cam-1"))
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await stub.GetDevice(common_pb2.GetRequest(name="cam-1"))
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND
    watch.cancel()


async def test_a_stopping_server_tells_its_agents(tmp_path: Path) -> None:
    server = DeliveryServer(tmp_path / "state")
    declare(server.store, "DeviceProfile", "cam")
    await server.start()
    async with WireAgent(server.port, "cam-1") as agent:
        stopping = asyncio.create_task(server.stop())
        assert await agent.ended() is grpc.StatusCode.UNAVAILABLE
        await stopping


async def test_many_devices_in_steps(server: DeliveryServer) -> None:
    """Twenty agents, 10% then 50% then all: no step reaches more than its share, and all end with the artifact."""
    deploy(server, steps=["10%", "50%", "100%"], min_executed=1)
    told: list[str] = []
    steps: dict[str, int] = {}

    async def live(name: str) -> None:
        async with WireAgent(server.port, name) as agent:
            assignment = await agent.assigned()
            told.append(name)
            steps[name] = int(server.store.get("Rollout", "vision-1").status.get("step", 0))
            await agent.commit(assignment)
            await until(lambda: server.store.get("Rollout", "vision-1").status["state"] == "Completed")

    agents = [asyncio.create_task(live(f"cam-{index}")) for index in range(20)]
    await until(lambda: len(server.fleet.devices()) == 20)
    await published(server)
    await asyncio.gather(*agents)
    assert len(told) == len(set(told)) == 20
    assert sum(step == 0 for step in steps.values()) <= 2
    assert sum(step <= 1 for step in steps.values()) <= 10


class ServerProcess:
    """The delivery server as a process of its own, to be killed without a word."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.integration.delivery_server", str(self._state)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port, self.http = map(int, self.process.stdout.readline().split())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[ServerProcess]:
    store = open_state(tmp_path / "state")
    declare(store, "DeviceProfile", "cam")
    declare(store, "Model", "vision", source="vision.onnx")
    declare(store, "Deployment", "vision", model="vision", rollout={"steps": ["50%", "100%"], "min_executed": 1})
    store.close()
    made = ServerProcess(tmp_path / "state")
    yield made
    if made.process.poll() is None:
        made.kill()


async def test_a_killed_server_decides_the_same_and_counts_nothing_twice(killable: ServerProcess) -> None:
    async with WireAgent(killable.port, "cam-1") as one, WireAgent(killable.port, "cam-2") as other:
        await one.report(usage(5, joules=1.0))
        await other.report(usage(7))
        chosen = await _first_told(one, other)
        assignment = await chosen.assigned()
    await asyncio.to_thread(killable.kill)
    await asyncio.to_thread(killable.start)
    text = await asyncio.to_thread(scraped, killable.http)
    assert value(text, TOTAL) == 12
    async with WireAgent(killable.port, "cam-1") as one, WireAgent(killable.port, "cam-2") as other:
        await one.report(usage(5, joules=1.0))
        again, still = (one, other) if chosen.hello.device == "cam-1" else (other, one)
        resent = await again.assigned()
        assert (resent.id, resent.spec.sha256) == (assignment.id, assignment.spec.sha256)
        assert still.assignments.empty()
        await again.commit(resent)
        assert (await still.assigned()).id == assignment.id
    assert value(await asyncio.to_thread(scraped, killable.http), TOTAL) == 12


async def _first_told(*agents: WireAgent) -> WireAgent:
    """Which of some agents is assigned something; it must be only one."""
    await until(lambda: any(not agent.assignments.empty() for agent in agents))
    (told,) = (agent for agent in agents if not agent.assignments.empty())
    return told


def test_a_second_server_cannot_take_the_metrics_port() -> None:
    first = MetricsServer(Metrics(), "127.0.0.1", 0)
    try:
        with pytest.raises(StartupError, match=r"in use.*--metrics-listen"):
            MetricsServer(Metrics(), "127.0.0.1", first.port)
    finally:
        first.close()
