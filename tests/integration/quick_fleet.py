"""A whole server in a process of its own, and real agents, each behind a link that a test can stop and cut. The server's engine
has every artifact ready: what is tried is delivery, and compression would only take time.

    python -m tests.integration.quick_fleet STATE LISTEN
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_compress.agent.setup import Setup, to_line
from edge_compress.client import Client
from edge_compress.config import ServerSettings
from edge_compress.delivery.fleet import FleetSettings
from edge_compress.delivery.reconcile import ReconcileSettings
from edge_compress.domain.artifact import Artifact, GoldenVectors, Measurement, Outcome
from edge_compress.domain.model import ModelFacts
from edge_compress.errors import NotFound
from edge_compress.server import logs
from edge_compress.server.app import App, Pace
from edge_compress.worker.engine import PairRequest, PairResult
from tests.integration.agent_harness import Agent, current, dense_model, golden_for, wait_until
from tests.integration.link import Link
from tests.unit.server.quick_engine import QuickEngine

ROOT = Path(__file__).parents[2]
until = functools.partial(wait_until, seconds=120.0, pause=0.03)
"""for what takes several processes, on a machine that has other things to do"""
PACE = Pace(
    FleetSettings(heartbeat_seconds=1.0, report_seconds=0.2, usage_seconds=0.0),
    ReconcileSettings(tick_seconds=0.1),
    progress_seconds=0.05,
)
SECOND_CHUNK = 600_000
"""so many bytes of a large version on the link end in the middle of its second chunk"""


@functools.cache
def version(recipe: str) -> tuple[bytes, bytes]:
    """Model and golden vectors of the version that a recipe stands for; of ``wrong`` ones they disagree."""
    seed = sum(recipe.encode())
    model = dense_model(seed, hidden=8000 if "large" in recipe else 256)
    return model, golden_for(model, wrong_by=1.0 if "wrong" in recipe else 0.0)


class ReadyEngine(QuickEngine):
    """The artifact of a pair is the version that its recipe stands for."""

    def facts(self, sha256: str) -> ModelFacts:
        return ModelFacts(sha256, self.store.blobs.size(sha256), 17, (), ())

    def run(self, request: PairRequest, **ignored: Any) -> PairResult:
        model, golden = version(request.recipe.name)
        sha256, golden256 = self.store.blobs.put_bytes(model), self.store.blobs.put_bytes(golden)
        outcome = Outcome(request.model.name, request.profile.name, "FEASIBLE", None, None, None, (), Measurement())
        artifact = Artifact(
            f"{request.model.name}-{sha256[:12]}", request.model.name, request.profile.name, sha256, len(model), len(model),
            "onnxruntime", GoldenVectors(golden256, len(golden), 4, 1e-3, 1e-3), version=sha256[:12],
        )  # fmt: skip
        return PairResult(outcome, artifact)


class QuickFleet:
    """Start it with ``quick_fleet``. Everything that is started here is gone at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "server"
        self.address, self.metrics = "127.0.0.1:0", ""
        self.agents: dict[str, Agent] = {}
        self.links: dict[str, Link] = {}
        self._client: Client | None = None

    def start_server(self) -> None:
        """On the same address and state as before."""
        command = self._command("server", "tests.integration.quick_fleet", str(self.state), self.address)
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        assert line, self.server_log
        self.address, self.metrics = line.split()
        self._client = self._client or Client(self.address)

    def end_server(self, with_signal: signal.Signals = signal.SIGKILL) -> None:
        self.server.send_signal(with_signal)
        self.server.wait(30)
        assert self.server.stdout is not None
        self.server.stdout.close()

    def start_agent(self, name: str) -> None:
        """A new agent, or one that was killed."""
        if name in self.agents:
            self.agents[name].end()
        link = self.links.setdefault(name, Link(self.address))
        setup = Setup(f"127.0.0.1:{link.port}", "cam", name, str(self.folder / name), heartbeat=0.2)
        self.agents[name] = Agent(link, self.folder / name, command=self._command(name, "edge_compress.agent", to_line(setup)))

    def jump(self, days: float, *whose: str) -> None:
        """Set the wall clocks of processes (``server`` and names of agents), before or after they are started."""
        for name in whose:
            fresh = self.folder / f"{name}.ahead.new"
            fresh.write_text(str(days * 86400))
            fresh.rename(self.folder / f"{name}.ahead")

    def _command(self, name: str, module: str, *arguments: str) -> list[str]:
        ahead = self.folder / f"{name}.ahead"
        runs = [str(Path(__file__).with_name("jumping_clock.py")), str(ahead), module] if ahead.exists() else ["-m", module]
        return [sys.executable, *runs, *arguments]

    def close(self) -> None:
        for link in self.links.values():
            link.close()
        for agent in self.agents.values():
            agent.end()
        if self.server.poll() is None:
            self.end_server()
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> Client:
        """Goes on through restarts of the server."""
        assert self._client is not None
        return self._client

    @property
    def server_log(self) -> str:
        return (self.folder / "server.log").read_text()

    def declare(self) -> None:
        """The profile and the model."""
        model, golden = version("source")
        (self.folder / "m.onnx").write_bytes(model)
        (self.folder / "val.npz").write_bytes(golden)
        self.apply("DeviceProfile", "cam", rate="20/s")
        self.apply("Model", "vision", source="m.onnx", data={"evaluation": "val.npz"})

    def apply(self, kind: str, name: str, **spec: Any) -> None:
        self.client.apply({"kind": kind, "metadata": {"name": name}, "spec": spec}, root=self.folder)

    def deploy(self, recipe: str, deployment: str = "vision", profile: str = "cam", **rollout: Any) -> None:
        """Want the version that ``recipe`` stands for on every device of a profile."""
        self.apply("Recipe", recipe, steps=[{"strategy": "quantize.float16"}])
        self.apply("Deployment", deployment, model="vision", recipe=recipe, selector={"profiles": [profile]}, rollout=rollout)

    def rollout(self, name: str) -> Any:
        """The rollout's status; None while there is none."""
        return self._status("Rollout", name)

    def comes_to(self, name: str, state: str) -> Any:
        """The status of a rollout, once it is in that state."""
        until(lambda: (told := self.rollout(name)) and told.state == state, f"{name} {state}")
        return self.rollout(name)

    def device(self, name: str) -> Any:
        """The status that the server shows of a device; None while there is none."""
        return self._status("Device", name)

    def _status(self, kind: str, name: str) -> Any:
        try:
            return self.client.get(kind, name).status
        except NotFound:
            return None

    def current(self, name: str) -> str:
        """Digest that the device's applications would load."""
        return current(self.folder / name)

    def runs(self, name: str, recipe: str) -> bool:
        """Whether a device's applications would load that version, and the server says so."""
        digest, status = hashlib.sha256(version(recipe)[0]).hexdigest(), self.device(name)
        here = status is not None and (status.state, status.version) == ("Committed", digest[:12])
        return here and self.current(name) == digest

    def all_run(self, recipe: str) -> None:
        """Wait until all that were started do."""
        until(lambda: all(self.runs(name, recipe) for name in self.agents), f"all run {recipe}")

    def sent(self, kind: str) -> float:
        """Bytes of that kind that the server has counted."""
        return self._metric(rf'edge_compress_transfer_bytes_total{{kind="{kind}"}} (\S+)')

    def held(self, name: str) -> int:
        """Bytes that a device has of a download that has not ended."""
        return max((path.stat().st_size for path in (self.folder / name / "partial").iterdir()), default=0)

    def inferences(self) -> float:
        """Inferences that the server has counted."""
        return self._metric(r"edge_compress_inferences_total{.*} (\S+)")

    def live(self) -> float:
        """Devices that the server has sessions with."""
        return self._metric(r'edge_compress_devices{state="(?!Disconnected).*"} (\S+)')

    def _metric(self, pattern: str) -> float:
        text = urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30).read().decode()
        return sum(float(value) for value in re.findall(pattern, text))


@contextmanager
def quick_fleet(folder: Path, jumping: Sequence[str] = ()) -> Iterator[QuickFleet]:
    """A fleet whose server is up, with the profile and the model declared. ``jumping``: whose wall clocks will ``jump``."""
    fleet = QuickFleet(folder)
    fleet.jump(0, *jumping)
    fleet.start_server()
    try:
        fleet.declare()
        yield fleet
    finally:
        fleet.close()


async def main(state: Path, listen: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    app = App(ServerSettings(listen=listen, metrics_listen="127.0.0.1:0", state=state), replace(PACE, make_engine=ReadyEngine))
    await app.start()
    print(app.address, app.metrics_address, flush=True)
    await stopped.wait()
    await app.stop()


if __name__ == "__main__":
    logs.configure("text")
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
