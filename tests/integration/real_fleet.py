"""A server, agents and a shell, each in processes of its own, and a small fleet file that they play."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.processes import children_of, parents
from tests.unit.cli.digits_fleet import DIGITS
from tests.unit.cli.server_process import ServerProcess

SECONDS = 120.0
DATA = """\
kind: DeviceProfile
metadata: {name: cam}
spec: PROFILE
---
kind: Model
metadata: {name: digits}
spec:
  source: digits.onnx
  data: {calibration: calib.npz, evaluation: val.npz, preprocess: {layout: NHWC, mean: 127, std: 128}}
  quality: {metric: agreement, max_drop: 1.0}
"""
PROFILE = "{precisions: [fp32, fp16, int8], rate: 20/s, compute: {watts_per_core: 1.5W}}"
DEPLOYMENT = """\
---
kind: Recipe
metadata: {name: the-recipe}
spec: {steps: [{strategy: STRATEGY, params: PARAMS}]}
---
kind: Deployment
metadata: {name: digits}
spec:
  model: digits
  recipe: the-recipe
  selector: {profiles: [cam]}
  rollout: ROLLOUT
"""


class Fleet:
    """A server, three agents and a shell."""

    def __init__(self, folder: Path, profile: str = PROFILE) -> None:
        self.folder, self._data = folder, DATA.replace("PROFILE", profile)
        self.server = ServerProcess(folder / "server")
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self.names = ("cam-1", "cam-2", "cam-3")

    def declare(self) -> None:
        """Write the files, start the server and declare the profile."""
        images = np.random.default_rng(1).integers(0, 255, size=(40, 28, 28, 1), dtype=np.uint8)
        np.savez(self.folder / "calib.npz", x=images)
        np.savez(self.folder / "val.npz", x=images)
        (self.folder / "digits.onnx").write_bytes(DIGITS.read_bytes())
        (self.folder / "profile.yaml").write_text(self._data.split("---")[0])
        self.server.start()
        self.done("apply", "-f", str(self.folder / "profile.yaml"))

    def start_agent(self, name: str) -> None:
        command = [sys.executable, "-m", "edge_compress", "agent", "--server", self.server.address, "--profile", "cam"]
        more = ["--name", name, "--state", str(self.folder / name), "--heartbeat", "1s", "--report", "1s"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.agents[name] = subprocess.Popen([*command, *more], stdout=log, stderr=log)

    def stop(self) -> None:
        for agent in self.agents.values():
            agent.terminate()
        for agent in self.agents.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.wait(20)
            agent.kill()
            agent.wait()
        self.server.stop()

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_compress", *arguments]
        environment = {**os.environ, "EDGE_COMPRESS_SERVER": self.server.address}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS)

    def done(self, *arguments: str) -> str:
        shown = self.cli(*arguments)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout

    def apply(self, strategy: str, rollout: str, params: str = "{}") -> None:
        text = DEPLOYMENT.replace("STRATEGY", strategy).replace("ROLLOUT", rollout).replace("PARAMS", params)
        (self.folder / "fleet.yaml").write_text(self._data + text)
        self.done("apply", "-f", str(self.folder / "fleet.yaml"), "--wait")

    def devices(self) -> dict[str, Any]:
        found = json.loads(self.done("get", "devices", "-o", "json"))
        return {item["metadata"]["name"]: item["status"] for item in found["items"]}

    def rollout(self, name: str) -> Any:
        shown = self.cli("get", "rollout", name, "-o", "json")
        return json.loads(shown.stdout)["status"] if shown.returncode == 0 else {"state": "", "devices": {}}

    def versions(self) -> dict[str, str]:
        """What each device's apps would load, by what its ``current`` says."""
        return {name: (self.folder / name / "current").resolve().name for name in self.names}


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


class Crowd:
    """``edge-compress simulate`` in a process of its own; ``last`` is what it told last. Each crowd of a fleet has a name."""

    def __init__(self, fleet: Fleet, *options: str, name: str = "sim") -> None:
        self.log = fleet.folder / f"crowd-{name}.log"
        command = [sys.executable, "-m", "edge_compress", "simulate", "--profile", "cam", "--json", "--prefix", name, *options]
        with self.log.open("wb") as out:
            environment = {**os.environ, "EDGE_COMPRESS_SERVER": fleet.server.address}
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    def last(self) -> Any:
        lines = self.log.read_text().splitlines()
        assert self.process.poll() is None, lines
        return json.loads(lines[-1]) if lines else {"connected": 0, "states": {}, "assigned": 0}

    def stop(self) -> None:
        children = set(children_of(self.process.pid))
        self.process.terminate()
        self.process.wait(60)
        until(lambda: not children & set(parents()))
