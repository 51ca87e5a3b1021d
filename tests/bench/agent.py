"""What an agent costs against the least that could do its work: `make bench-agent`, or `python tests/bench/agent.py MODEL.onnx`.

The yardstick is one bare process with grpcio, numpy, onnxruntime and the same model: it connects, loads, answers once, and then
goes on answering as often as the agent's self-test. Both are started against the same server on loopback, in turns. Memory is
summed over all processes of each: RSS counts shared pages for every process, PSS divides them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.integration.agent_harness import Agent, AgentServer, children_of, dense_model, golden_for, running, wait_until  # noqa: E402

DEMO_MODEL = REPOSITORY / "edge_compress" / "demo" / "digits.onnx"
RATE = 5.0
SETTLE_SECONDS = 3.0
LIMIT = 1.10
PSS_COUNTS_FROM = 0.85
"""share of its RSS that a process alone on a machine keeps as PSS"""
COMMAND = (sys.executable, "-m", "edge_compress", "agent")

BARE = """
import sys, time, json
import grpc, numpy, onnxruntime
server, model, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
channel = grpc.insecure_channel(server)
grpc.channel_ready_future(channel).result(20)
connected = time.time()
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
feeds = {i.name: numpy.ones([d if isinstance(d, int) else 1 for d in i.shape], numpy.float32) for i in session.get_inputs()}
session.run(None, feeds)
print(json.dumps({"connected": connected, "first": time.time()}), flush=True)
while True:
    time.sleep(1 / rate)
    session.run(None, feeds)
"""


@dataclass(frozen=True)
class Cost:
    """Seconds from the start of the process to each event; bytes held after some seconds of work."""

    connected: float
    first_inference: float
    rss: int
    pss: int


COLUMNS = (
    ("connected", "connected", 1e3, "ms"),
    ("first_inference", "first inference", 1e3, "ms"),
    ("rss", "RSS", 2**-20, "MiB"),
    ("pss", "PSS", 2**-20, "MiB"),
)
"""field, title, scale and unit"""


def bare(server: AgentServer, model: Path) -> Cost:
    """The yardstick."""
    command = [sys.executable, "-c", BARE, f"127.0.0.1:{server.port}", str(model), str(RATE)]
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        times = json.loads(process.stdout.readline())
        rss, pss = memory_after_a_while([process.pid])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return Cost(times["connected"] - began, times["first"] - began, rss, pss)


def agent(server: AgentServer, state: Path, start: Callable[..., Agent]) -> Cost:
    """An agent that finds its model in its slot, as after a boot."""
    state.with_name(state.name + ".log").unlink(missing_ok=True)
    began = time.time()
    running_agent = start(server, state)
    try:
        wait_until(lambda: {"connected", "serving"} <= set(events(running_agent)), "connected and serving")
        rss, pss = memory_after_a_while([running_agent.process.pid, *children_of(running_agent.process.pid)])
        seen = events(running_agent)
    finally:
        running_agent.terminate()
        running_agent.end()
    return Cost(seen["connected"] - began, seen["serving"] - began, rss, pss)


def events(running_agent: Agent) -> dict[str, float]:
    """First word of each thing the agent said -> when. Loading a model includes its first inference."""
    lines = (json.loads(line) for line in running_agent.log.splitlines() if line.startswith("{"))
    return {line["message"].split()[0]: line["time"] for line in lines}


def flags(server: AgentServer, state: Path) -> list[str]:
    """What an agent is told."""
    options = ["--profile", "cam", "--name", "cam-01", "--state", str(state), "--server", f"127.0.0.1:{server.port}"]
    return [*options, "--self-test-rate", f"{RATE}/s", "--log-format", "json"]


def own_process(server: AgentServer, state: Path) -> Agent:
    """The agent's own process, as a service manager starts it."""
    return Agent(server, state, command=[sys.executable, "-m", "edge_compress.agent", *flags(server, state)])


def by_command(server: AgentServer, state: Path) -> Agent:
    """The verb of the command line."""
    return Agent(server, state, command=[*COMMAND, *flags(server, state)])


def memory_after_a_while(pids: list[int]) -> tuple[int, int]:
    """RSS and PSS of processes that have worked for some seconds."""
    time.sleep(SETTLE_SECONDS)
    rows = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in pids]
    fields = [{row.split()[0]: int(row.split()[1]) * 1024 for row in text[1:]} for text in rows]
    return sum(item["Rss:"] for item in fields), sum(item["Pss:"] for item in fields)


def install(server: AgentServer, state: Path, model: bytes) -> None:
    """Leave a committed model in a state folder."""
    assignment = server.artifact("bench", model, golden_for(model), self_test_per_second=RATE)
    server.wanted["cam-01"] = assignment
    with running(server, state) as first:
        wait_until(lambda: first.position().get("state") == "Committed", "committed", 60)
        assert first.terminate() == 0


def typical(costs: list[Cost]) -> Cost:
    """The shortest times, because only other work can add to them, and the median memory."""
    times = (min(cost.connected for cost in costs), min(cost.first_inference for cost in costs))
    return Cost(*times, int(statistics.median(cost.rss for cost in costs)), int(statistics.median(cost.pss for cost in costs)))


def show(rows: dict[str, Cost]) -> bool:
    """Print the table; whether every figure of the agent is within the limit."""
    yardstick, good = rows["bare script"], True
    shared = yardstick.pss < PSS_COUNTS_FROM * yardstick.rss
    print(f"{'':22}" + "".join(title.rjust(20) for _, title, _, _ in COLUMNS))
    for name, cost in rows.items():
        cells = []
        for field, _, scale, unit in COLUMNS:
            ratio = getattr(cost, field) / getattr(yardstick, field)
            good = good and (ratio <= LIMIT or (field == "pss" and shared))
            cells.append(f"{getattr(cost, field) * scale:.0f} {unit} {ratio:.2f}x".rjust(20))
        print(f"{name:22}" + "".join(cells))
    if shared:
        print("PSS is not judged: other processes of this machine share onnxruntime's or grpc's pages just now")
    return good


def main() -> int:
    """Measure and print; exit code 1 when the agent is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="ONNX file (default: the demo's, else one made here)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    chosen = arguments.model or (DEMO_MODEL if DEMO_MODEL.exists() else None)
    model = chosen.read_bytes() if chosen else dense_model(1, hidden=10_000)
    server = AgentServer()
    server.start()
    # As installed: compiled modules are found, not made anew at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = folder + "/compiled"
        path, state = Path(folder) / "model.onnx", Path(folder) / "agent"
        path.write_bytes(model)
        install(server, state, model)
        kinds: dict[str, Callable[[], Cost]] = {
            "bare script": lambda: bare(server, path),
            "agent": lambda: agent(server, state, own_process),
            "edge-compress agent": lambda: agent(server, state, by_command),
        }
        if subprocess.run([*COMMAND, "--help"], capture_output=True, check=False).returncode:
            del kinds["edge-compress agent"]
        measured: dict[str, list[Cost]] = {name: [] for name in kinds}
        for number in range(1 + arguments.rounds):
            for name, measure in kinds.items():
                cost = measure()
                if number > 0:  # the first one compiles
                    measured[name].append(cost)
    server.stop()
    how = f"shortest times and median memory of {arguments.rounds} rounds"
    print(f"{chosen or 'a model made here'}: {len(model) / 2**20:.1f} MiB; {how}")
    good = show({name: typical(costs) for name, costs in measured.items()})
    print(f"within {LIMIT - 1:.0%} of the bare script" if good else f"over the limit of {LIMIT - 1:.0%}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
