"""A small but real server for agents, agents as real processes, and real models: what test_agent.py and the bench stand on."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import grpc
import numpy as np
import onnx
import onnxruntime
from backports import zstd
from onnx import TensorProto, helper, numpy_helper

from edge_compress.agent.setup import Setup, to_line
from edge_compress.api.v1 import agents_pb2, agents_pb2_grpc, artifacts_pb2, artifacts_pb2_grpc

CHUNK_BYTES = 64 * 1024
SETTLED = ("Committed", "RolledBack")
NAME = "cam-01"
WAY = ["Preflight", "Fetching", "Verifying", "Staged", "Probing", "Trial", "Committed"]


def dense_model(seed: int, hidden: int = 256) -> bytes:
    """A two-layer perceptron of 64 inputs and 10 outputs; about ``hidden`` * 300 bytes."""
    random = np.random.default_rng(seed)
    weights = {
        "w1": random.normal(size=(64, hidden)).astype(np.float32) / 8,
        "w2": random.normal(size=(hidden, 10)).astype(np.float32) / 16,
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["y"]),
    ]
    return _model(nodes, {"x": [None, 64]}, {"y": [None, 10]}, weights)


def slow_model(layers: int = 6, size: int = 64) -> bytes:
    """Convolutions that keep a core busy for some tens of milliseconds, with few weights."""
    weight = np.full((32, 32, 3, 3), 1e-3, dtype=np.float32)
    names = ["x", *(f"h{index}" for index in range(layers - 1)), "y"]
    nodes = [helper.make_node("Conv", [a, "w"], [b], pads=[1, 1, 1, 1]) for a, b in pairwise(names)]
    shape = [None, 32, size, size]
    return _model(nodes, {"x": shape}, {"y": shape}, {"w": weight})


def _model(nodes, inputs, outputs, weights) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def golden_for(model: bytes, samples: int = 4, wrong_by: float = 0.0) -> bytes:
    """Golden vectors of a model, by running it; ``wrong_by`` spoils the outputs."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(7)
    feeds = {item.name: random.normal(size=[samples, *item.shape[1:]]).astype(np.float32) for item in session.get_inputs()}
    wanted = session.run(None, feeds)
    names = [item.name for item in session.get_outputs()]
    arrays = {f"in/{name}": value for name, value in feeds.items()}
    arrays |= {f"out/{name}": value + np.float32(wrong_by) for name, value in zip(names, wanted, strict=True)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@dataclass
class Device:
    """What the server saw of one device."""

    hello: agents_pb2.Hello | None = None
    hellos: int = 0
    moves: list[agents_pb2.Move] = field(default_factory=list)
    reports: dict[tuple[str, str], agents_pb2.UsageReport] = field(default_factory=dict)
    batches: list[agents_pb2.ReportBatch] = field(default_factory=list)
    resident_bytes: int = 0
    said_goodbye: bool = False
    connected: bool = False

    def states(self, assignment: str) -> list[str]:
        return [move.state for move in self.moves if move.assignment == assignment]

    def last(self, assignment: str) -> agents_pb2.Move | None:
        return next((move for move in reversed(self.moves) if move.assignment == assignment), None)

    def total(self, version: str, outcome: str = "ok") -> int:
        return sum(item.inferences[outcome] for item in self.reports.values() if item.version == version)


class AgentServer(agents_pb2_grpc.AgentServiceServicer, artifacts_pb2_grpc.ArtifactServiceServicer):
    """Serves blobs and sessions from memory, in a thread with its own event loop. Outlives ``stop`` and ``start``."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.blobs: dict[str, bytes] = {}
        self.profiles = {"cam"}
        self.wanted: dict[str, agents_pb2.Assignment] = {}
        self.watts_per_core: float | None = 2.0
        self.acknowledge = True
        self.served_bytes: list[tuple[str, int]] = []
        self.chunk_pause = 0.0
        self.spoil: Callable[[artifacts_pb2.Chunk], artifacts_pb2.Chunk] = lambda chunk: chunk
        self._sessions: dict[str, grpc.aio.ServicerContext] = {}
        self._tasks: dict[str, asyncio.Task] = {}
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(20)

    async def _run(self, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        agents_pb2_grpc.add_AgentServiceServicer_to_server(self, server)
        artifacts_pb2_grpc.add_ArtifactServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        ready.set()
        await self._stopping.wait()
        await server.stop(0)

    def offer(self, device: str, assignment: agents_pb2.Assignment) -> None:
        """Want ``assignment`` on ``device`` from now on, and say so when it is connected."""
        self.wanted[device] = assignment
        context = self._sessions.get(device)
        if context is not None and self._loop is not None:
            asyncio.run_coroutine_threadsafe(context.write(agents_pb2.ServerMessage(assignment=assignment)), self._loop).result(
                10
            )

    def artifact(self, name: str, model: bytes, golden: bytes, **limits) -> agents_pb2.Assignment:
        """An assignment of a model whose blobs this server now holds."""
        digests = [hashlib.sha256(blob).hexdigest() for blob in (model, golden)]
        self.blobs |= dict(zip(digests, (model, golden), strict=True))
        vectors = artifacts_pb2.GoldenVectors(sha256=digests[1], size_bytes=len(golden), samples=4, rtol=1e-3, atol=1e-3)
        spec = artifacts_pb2.ArtifactSpec(
            model="vision", profile="cam", sha256=digests[0], size_bytes=len(model), download_bytes=len(model),
            runtime="onnxruntime", golden=vectors, version=digests[0][:12], file_name="model.onnx",
        )  # fmt: skip
        settings = {"threads": 1, "self_test_per_second": 20.0, **limits}
        return agents_pb2.Assignment(id=name, artifact=f"vision-{digests[0][:12]}", deployment="vision", spec=spec, **settings)

    async def Session(self, requests, context):
        first = await context.read()
        hello = first.hello
        if hello.profile not in self.profiles:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"profile {hello.profile!r} does not exist")
        device = self.devices.setdefault(hello.device, Device())
        device.hello, device.connected, device.said_goodbye = hello, True, False
        device.hellos += 1
        welcome = agents_pb2.Welcome(
            heartbeat_seconds=1, report_seconds=0.2, watts_per_core=self.watts_per_core, server_time=time.time()
        )
        await context.write(agents_pb2.ServerMessage(welcome=welcome))
        if hello.device in self.wanted:
            await context.write(agents_pb2.ServerMessage(assignment=self.wanted[hello.device]))
        if hello.device in self._tasks:
            self._tasks[hello.device].cancel()
        self._sessions[hello.device], self._tasks[hello.device] = context, asyncio.current_task()
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                await self._take(device, message, context)
            device.said_goodbye = True
        except asyncio.CancelledError:
            await context.abort(grpc.StatusCode.ABORTED, "a newer session of this device took over")
        finally:
            if self._sessions.get(hello.device) is context:
                device.connected = False
                del self._sessions[hello.device], self._tasks[hello.device]

    async def _take(self, device: Device, message, context) -> None:
        kind = message.WhichOneof("message")
        if kind == "move":
            device.moves.append(message.move)
        elif kind == "heartbeat":
            device.resident_bytes = message.heartbeat.resident_bytes
        elif kind == "reports":
            device.batches.append(message.reports)
            for report in message.reports.reports:
                device.reports[(report.boot_id, report.version)] = report
            if self.acknowledge:
                ack = agents_pb2.ReportAck(sequence=message.reports.sequence)
                await context.write(agents_pb2.ServerMessage(ack=ack))

    async def DownloadBlob(self, request, context):
        blob = self.blobs.get(request.sha256)
        if blob is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        self.served_bytes.append((request.sha256, request.offset_bytes))
        for start in range(request.offset_bytes, len(blob), CHUNK_BYTES):
            data = blob[start : start + CHUNK_BYTES]
            packed = zstd.compress(data)
            chunk = artifacts_pb2.Chunk(offset=start, data=packed, encoding=artifacts_pb2.ENCODING_ZSTD)
            await context.write(self.spoil(chunk))
            await asyncio.sleep(self.chunk_pause)


class HasPort(Protocol):
    """What an agent connects to, on loopback."""

    port: int


class Agent:
    """A real agent process."""

    def __init__(self, server: HasPort, state: Path, name: str = NAME, command: Sequence[str] = (), **options) -> None:
        setup = Setup(server=f"127.0.0.1:{server.port}", name=name, state=str(state), **{"profile": "cam", **options})
        self.state = state
        self._log = open(state.with_name(state.name + ".log"), "ab")  # noqa: SIM115  # closed by end()
        own = [sys.executable, "-m", "edge_compress.agent", to_line(setup)]
        self.process = subprocess.Popen(command or own, stderr=self._log)

    @property
    def log(self) -> str:
        return self.state.with_name(self.state.name + ".log").read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def terminate(self, within: float = 10.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()

    def children(self) -> list[int]:
        return children_of(self.process.pid)

    def position(self) -> dict:
        """The newest position in the journal; empty before the first."""
        path = self.state / "journal"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return json.loads(lines[-1].partition(b" ")[2]) if lines else {}


def children_of(pid: int) -> list[int]:
    """Processes whose parent is ``pid``, without zombies."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0, pause: float = 0.01) -> None:
    """Return once ``condition`` holds, looking every ``pause`` seconds; fail when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)


def settled(server: AgentServer, assignment: str) -> agents_pb2.Move:
    """The last move of an assignment, once it is settled."""
    wait_until(lambda: NAME in server.devices, "hello")
    device = server.devices[NAME]
    wait_until(lambda: (move := device.last(assignment)) and move.state in SETTLED, f"{assignment} settled")
    return device.last(assignment)


def good(server: AgentServer, name: str, seed: int, **limits) -> agents_pb2.Assignment:
    """Offer a good model and wait until it is committed."""
    model = dense_model(seed)
    assignment = server.artifact(name, model, golden_for(model), **limits)
    server.offer(NAME, assignment)
    assert settled(server, name).state == "Committed"
    return assignment


def goes_on_serving(server: AgentServer, version: str, more: int = 5) -> None:
    """Wait for more inferences of a version."""
    device = server.devices[NAME]
    before = device.total(version)
    wait_until(lambda: device.total(version) >= before + more, f"more inferences of {version}")


def current(state: Path) -> str:
    """Digest that a device's applications would load."""
    return (state / "current").readlink().name


@contextmanager
def serving(server: AgentServer | None = None) -> Iterator[AgentServer]:
    """A server that is gone afterwards."""
    server = server or AgentServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def running(server: AgentServer, state: Path, **options) -> Iterator[Agent]:
    """An agent that is gone afterwards."""
    agent = Agent(server, state, **options)
    try:
        yield agent
    finally:
        agent.end()
