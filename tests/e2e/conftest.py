"""Real processes for end-to-end tests: a server and agents that can be killed, and the command line as a person runs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_compress import Client
from edge_compress.errors import Unavailable
from tests.e2e.tiny import write_fleet

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "edge_compress" / "demo"


ONE_RECIPE = """
kind: Recipe
metadata: {name: int8}
spec: {steps: [{strategy: quantize.static}]}
---
kind: Deployment
metadata: {name: digits}
spec: {model: digits, recipe: int8, selector: {profiles: [cam]}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, check: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true answer of ``check``; fails naming ``what`` when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds:g} s: {what}")


@dataclass
class Stand:
    """One server's place: its ports and state stay the same from start to start."""

    folder: Path
    python: str = sys.executable
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def spawn(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        """A long-lived process of the command line; its output goes to ``<folder>/<log>.log``."""
        with (self.folder / f"{log}.log").open("ab") as sink:
            process = subprocess.Popen(
                [self.python, "-m", "edge_compress", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=self._env(),
            )
        self.started.append(process)
        return process

    def start_server(self, *flags: str) -> None:
        listen = ["--listen", self.address, "--metrics-listen", f"127.0.0.1:{self.metrics_port}", "--state", str(self.state)]
        self.server = self.spawn("server", *listen, *flags, log="server")
        wait_for("the server answers", self._answers)

    def kill_server(self) -> None:
        """As a power cut would: no warning."""
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()

    def start_agent(self, profile: str, name: str, *flags: str) -> subprocess.Popen[bytes]:
        base = ["agent", "--server", self.address, "--profile", profile, "--name", name]
        return self.spawn(*base, "--state", str(self.folder / name), *flags, log=name)

    def cli(self, *arguments: str, code: int = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end; its exit code must be ``code``."""
        done = subprocess.run(
            [self.python, "-m", "edge_compress", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**self._env(), "EDGE_COMPRESS_SERVER": self.address},
            check=False,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def get(self, kind: str) -> list[dict[str, Any]]:
        """Every resource of a kind, asked for in this process: a command a question would slow what is tested."""
        with Client(self.address) as client:
            return [
                {"metadata": {"name": item.name}, "spec": vars(item.spec), "status": vars(item.status) if item.status else {}}
                for item in client.list(kind)
            ]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def steps(self) -> dict[str, float]:
        """Finished strategy steps by key, with the time they were stored."""
        with sqlite3.connect(f"file:{self.state / 'state.db'}?mode=ro", uri=True) as db:
            return dict(db.execute("SELECT key, created_at FROM steps WHERE key LIKE 'step/%'"))

    def steps_counted(self) -> float:
        """Strategy steps that the running server says it ran to a good end."""
        pattern = r'^edge_compress_job_duration_seconds_count\{[^}]*outcome="ok"[^}]*\} ([0-9.e+]+)$'
        found = re.findall(pattern, self.metrics(), re.MULTILINE)
        return sum(float(value) for value in found)

    def jobs_done(self) -> bool:
        """Whether there are jobs and all have ended."""
        states = [item["status"].get("state", "Queued") for item in self.get("Job")]
        return bool(states) and not {"Queued", "Running"} & set(states)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _answers(self) -> bool:
        assert self.server is not None
        if self.server.poll() is not None:
            raise AssertionError(f"the server ended with {self.server.returncode}:\n{self.log('server')}")
        try:
            with Client(self.address, timeout=1.0) as client:
                return list(client.list("DeviceProfile")) is not None
        except Unavailable:
            return False

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def make_stand(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Stands with another interpreter or environment."""
    made: list[Stand] = []

    def make(**changes: Any) -> Stand:
        folder = tmp_path / f"stand{len(made)}"
        folder.mkdir()
        made.append(Stand(folder, **changes))
        return made[-1]

    yield make
    for item in made:
        item.stop()


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's fleet file, trained network and real images in a folder."""
    from edge_compress.demo.data import load, write

    folder = tmp_path_factory.mktemp("demo")
    write(load(), folder)
    for name in ("digits.onnx", "fleet.yaml"):
        shutil.copy(DEMO / name, folder / name)
    return folder


@pytest.fixture
def fleet(demo_files: Path, tmp_path: Path) -> Path:
    """A copy of the demo's fleet file that a test may change, with the data beside it."""
    folder = tmp_path / "fleet"
    shutil.copytree(demo_files, folder)
    return folder / "fleet.yaml"


@pytest.fixture
def small_fleet(fleet: Path) -> Path:
    """The demo's model for one profile by one recipe: a single candidate, where choosing is not what is tested."""
    documents = [item for item in fleet.read_text().split("---\n") if "name: cam," in item or "kind: Model" in item]
    fleet.write_text("---\n".join([*documents, ONE_RECIPE]))
    return fleet


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand whose server is up for all tests of a module. It takes models of up to 1 MiB."""
    made = Stand(tmp_path_factory.mktemp("served"), environment={"EDGE_COMPRESS_MAX_MODEL": "1Mi"})
    made.start_server()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest real fleet in a folder."""
    return write_fleet(tmp_path_factory.mktemp("tiny")).parent


@pytest.fixture
def tiny(tiny_files: Path, tmp_path: Path) -> Path:
    """A copy of the smallest real fleet file that a test may change, with model and data beside it."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_files, folder)
    return folder / "fleet.yaml"


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., Any]:
    return wait_for
