"""How near a canary rollout comes to what the link can carry: ``make bench-rollout``, or ``python -m tests.bench.rollout``.

A real server, and a crowd of hollow agents that really download: first everybody gets one version of some megabytes of weights,
then another in steps without any soak, with the default form of chunks. Beside it, what a bare ``os.sendfile`` loop takes for the
same bytes to as many clients, and what our server takes for the same downloads with no rollout around them. No time is too long.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_compress.client import Client
from edge_compress.domain.rollout import RolloutState
from edge_compress.errors import NotFound
from tests.bench.downloads import OverGrpc
from tests.bench.link import OverHttp, Run, measured, sendfile_server
from tests.bench.weights import MATRIX_BYTES, chain
from tests.integration.real_fleet import Crowd, Fleet, until
from tests.processes import children_of, processor_seconds

_STEPS = "[1%, 10%, 50%, 100%]"
_PATIENCE_SECONDS = 600.0
_GRAIN_SECONDS, _TELLING_SECONDS = 0.05, 2.5
"""between two looks at a rollout, and until the crowd told of what it did"""
_FLEET = """\
kind: Model
metadata: {name: chain}
spec:
  source: chain.onnx
  data: {calibration: samples.npz, evaluation: samples.npz}
  quality: {metric: cosine, max_drop: 0.1}
---
kind: Recipe
metadata: {name: halved}
spec: {steps: [{strategy: quantize.float16}]}
---
kind: Deployment
metadata: {name: chain}
spec:
  model: chain
  recipe: halved
  selector: {profiles: [cam]}
  rollout: ROLLOUT
"""


@dataclass(frozen=True)
class Update:
    """One rollout to everybody. ``crowd``: processor seconds of its agents; ``put_off``: downloads that were asked for again,
    for the server had no place for one more."""

    run: Run
    crowd: float
    put_off: int


@dataclass(frozen=True)
class Scene:
    """A server, agents that joined it, and a client."""

    fleet: Fleet
    crowd: Crowd
    client: Client
    matrices: int

    def update(self, number: int, policy: str) -> Update:
        """Roll out weights of their own by ``policy``; the time is from the rollout's first being there until it is done."""
        folder, rollout = self.fleet.folder, f"chain-{number}"
        (folder / "chain.onnx").write_bytes(chain(self.matrices, seed=number))
        (folder / "chain.yaml").write_text(_FLEET.replace("ROLLOUT", policy))
        before = self.crowd.last()
        self.client.apply(folder / "chain.yaml")
        used, began = self._used_until(rollout, frozenset(RolloutState)), time.perf_counter()
        done = self._used_until(rollout, frozenset({RolloutState.COMPLETED}))
        seconds = time.perf_counter() - began
        time.sleep(_TELLING_SECONDS)
        after = self.crowd.last()
        run = Run(seconds, after["downloaded"] - before["downloaded"], done[0] - used[0])
        return Update(run, done[1] - used[1], after["put_off"] - before["put_off"])

    def _used_until(self, rollout: str, states: frozenset[str]) -> tuple[float, float]:
        """Processor seconds that the server and the crowd had used when the rollout came to one of the states."""
        members = tuple(children_of(self.crowd.process.pid))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            used = processor_seconds(self.fleet.server.pid), processor_seconds(*members)
            with contextlib.suppress(NotFound):
                if self.client.get("Rollout", rollout).status.state in states:
                    return used
            time.sleep(_GRAIN_SECONDS)
        raise SystemExit(f"rollout {rollout} did not come to {sorted(states)} in {_PATIENCE_SECONDS:g} s")


def show(name: str, run: Run, yardstick: Run) -> None:
    """A row of the table."""
    figures = (
        f"{run.seconds:8.1f}{run.sent:16,}{run.megabytes_a_second:8.0f}{run.processor:12.1f}{run.processor_a_gigabyte:10.2f}"
    )
    ratios = f"{run.seconds / yardstick.seconds:10.1f}{run.processor / yardstick.processor:10.1f}"
    print(f"{name:44}{figures}{ratios}", flush=True)


def compared(update: Update, agents: int, fleet: Fleet, client: Client) -> None:
    """Print the update beside what plain downloads of as many bytes by as many clients take."""
    file = fleet.folder / "blob"
    file.write_bytes(os.urandom(update.run.sent // agents))
    print(f"{'':44}{'s':>8}{'bytes':>16}{'MB/s':>8}{'server CPU s':>12}{'a GB':>10}{'times':>10}{'CPU':>10}")
    with sendfile_server(file) as bare:
        least = measured(bare.pids, OverHttp(bare.port, 1), agents)
    show("sendfile, as many clients", least, least)
    plain = measured((fleet.server.pid,), OverGrpc(fleet.server.address, client.upload(file), 1), agents)
    show("our server, as many clients, no rollout", plain, least)
    show(f"our server, a rollout by {_STEPS}", update.run, least)
    print(f"the crowd itself used {update.crowd:.1f} CPU s meanwhile; {update.put_off} downloads had to be asked for again")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=1000, help="default %(default)s")
    parser.add_argument("--megabytes", type=int, default=4, help="MiB of the artifact; default %(default)s")
    arguments = parser.parse_args()
    agents = arguments.agents
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        fleet = Fleet(Path(scratch))
        stack.callback(fleet.stop)
        fleet.declare()
        np.savez(fleet.folder / "samples.npz", x=np.random.default_rng(0).standard_normal((16, 512), np.float32))
        crowd = Crowd(fleet, "--agents", str(agents), "--processes", "2", "--install", "0s", "--ramp", "2s")
        stack.callback(crowd.stop)
        until(lambda: crowd.last()["connected"] == agents)
        client = stack.enter_context(Client(fleet.server.address))
        scene = Scene(fleet, crowd, client, 2 * arguments.megabytes * 2**20 // MATRIX_BYTES)
        first = scene.update(1, "{}").run
        print(f"{agents:,} agents; the first version to all at once: {first.seconds:.1f} s, {first.sent:,} bytes")
        compared(scene.update(2, f"{{steps: {_STEPS}}}"), agents, fleet, client)


if __name__ == "__main__":
    main()
