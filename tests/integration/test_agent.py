"""A real agent process against a real gRPC server on loopback, with real models, kills and broken links."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from edge_compress.agent.setup import Setup, to_line
from edge_compress.api.v1 import artifacts_pb2
from tests.integration.agent_harness import (
    NAME,
    WAY,
    Agent,
    AgentServer,
    alive,
    children_of,
    current,
    dense_model,
    goes_on_serving,
    golden_for,
    good,
    running,
    serving,
    settled,
    slow_model,
    wait_until,
)


@pytest.fixture
def server() -> Iterator[AgentServer]:
    with serving() as started:
        yield started


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "agent"


def test_an_assignment_is_fetched_checked_tried_committed_and_reported(server: AgentServer, state: Path) -> None:
    with running(server, state, labels={"site": "plant-1"}):
        wait_until(lambda: NAME in server.devices, "hello")
        assignment = good(server, "one", 1)
        goes_on_serving(server, assignment.spec.version, 10)
        device = server.devices[NAME]
        assert device.states("one") == WAY
        assert device.hello.runtime_version == onnxruntime.__version__
        assert dict(device.hello.labels) == {"site": "plant-1"}
        last = device.last("one")
        assert last.current_sha256 == assignment.spec.sha256 == current(state)
        assert 0 < last.p95_seconds < 1
        assert last.peak_memory_bytes > 0
        slot = state / "current"
        assert sorted(path.name for path in slot.iterdir()) == ["golden.npz", "manifest.json", "model.onnx"]
        assert hashlib.sha256((slot / "model.onnx").read_bytes()).hexdigest() == assignment.spec.sha256
        (report,) = device.reports.values()
        assert sum(report.bucket_counts) == report.inferences["ok"]
        assert len(report.bucket_counts) == len(report.bucket_bounds) + 1
        (energy,) = report.energy
        assert (energy.source, energy.scope) == ("estimate", "process")
        assert 0 < energy.joules < 60
        wait_until(lambda: device.resident_bytes > 20 << 20, "a heartbeat with the memory of both processes")


def test_an_external_meter_counts_what_is_above_the_idle_draw(server: AgentServer, state: Path) -> None:
    """A command that shows 5 W always, and the processor time of the agent's model process times 200 W above."""
    script = state.with_name("meter.py")
    script.write_text(
        "import os, sys, time\n"
        "agent = os.getppid()\n"
        "ticks = 0\n"
        "for pid in open(f'/proc/{agent}/task/{agent}/children').read().split():\n"
        "    if pid != str(os.getpid()):\n"
        "        ticks += sum(map(int, open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[11:13]))\n"
        "print(5.0 * time.monotonic() + 200.0 * ticks / os.sysconf('SC_CLK_TCK'))\n"
    )
    with running(server, state, meter_command=f"{sys.executable} {script}") as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        model = slow_model()
        wanted = server.artifact("one", model, golden_for(model))
        server.offer(NAME, wanted)
        wait_until(lambda: any(item.energy for item in server.devices[NAME].reports.values()), "energy", 90)
        goes_on_serving(server, wanted.spec.version, 20)
        (report,) = server.devices[NAME].reports.values()
        (energy,) = report.energy
        assert (energy.source, energy.scope) == ("external", "device")
        assert 0.1 < energy.joules / (200.0 * report.duration_sum) < 3
        assert agent.terminate() == 0
    assert "energy by external/device, within 5%" in agent.log


STRANGER = """
import time
from edge_compress.plugin import EnergyCounter, EnergyMeter, hookimpl

class Wall(EnergyCounter):
    scope, shared, resolution_seconds, uncertainty = "socket", False, 0.001, 0.01

    def __init__(self):
        self.begin = time.monotonic()

    def read(self):
        return 7.0 * (time.monotonic() - self.begin)

class WallMeter(EnergyMeter):
    name, source = "wall", "hwmon"

    def open(self, site):
        return Wall()

@hookimpl
def edge_compress_register_energy_meters():
    return [WallMeter()]
"""


def test_a_strangers_meter_is_found_and_read(server: AgentServer, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only that: pluggy stays out, and so do the plugins of servers."""
    folder = state.with_name("site")
    (folder / "acme_wall-1.0.dist-info").mkdir(parents=True)
    (folder / "acme_wall-1.0.dist-info/entry_points.txt").write_text("[edge_compress]\nacme_wall = acme_wall\n")
    (folder / "acme_wall.py").write_text(STRANGER)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    with running(server, state, meter="wall") as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        goes_on_serving(server, good(server, "one", 1).spec.version)
        (energy,) = next(iter(server.devices[NAME].reports.values())).energy
        assert (energy.source, energy.scope) == ("hwmon", "socket")
        assert agent.terminate() == 0
    imported = {line.split("'")[1].partition(".")[0] for line in agent.log.splitlines() if line.startswith("import '")}
    assert "acme_wall" in imported
    assert imported.isdisjoint({"pluggy", "edge_compress_quantize", "edge_compress_metrics", "torch"})


def test_a_meter_that_no_plugin_has_ends_the_agent(server: AgentServer, state: Path) -> None:
    with running(server, state, meter="wattson") as agent:
        assert agent.process.wait(20) == 1
    assert "--meter wattson: there is no such meter; use auto or one of battery, estimate" in agent.log


def test_without_a_meter_or_declared_watts_no_energy_is_reported(server: AgentServer, state: Path) -> None:
    server.watts_per_core = None
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        assignment = good(server, "one", 1)
        goes_on_serving(server, assignment.spec.version)
        (report,) = server.devices[NAME].reports.values()
        assert not report.energy


def test_an_update_keeps_the_one_before_and_removes_older_ones(server: AgentServer, state: Path) -> None:
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        made = [good(server, name, seed) for seed, name in enumerate(["one", "two", "three"])]
        goes_on_serving(server, made[2].spec.version)
        kept = {path.name for path in (state / "slots").iterdir()}
        assert kept == {made[1].spec.sha256, made[2].spec.sha256}
        assert len(agent.children()) == 1


def test_corrupt_bytes_never_become_current(server: AgentServer, state: Path) -> None:
    def flip(chunk: artifacts_pb2.Chunk) -> artifacts_pb2.Chunk:
        return artifacts_pb2.Chunk(offset=chunk.offset, data=b"\0" * 1000 if chunk.offset == 0 else chunk.data)

    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        first = good(server, "one", 1)
        child = agent.children()
        model = dense_model(2)
        second = server.artifact("two", model, golden_for(model))
        for sha256 in (second.spec.sha256, second.spec.golden.sha256):
            blob = bytearray(server.blobs[sha256])
            blob[len(blob) // 2] ^= 1
            server.blobs[sha256] = bytes(blob)
        server.offer(NAME, second)
        move = settled(server, "two")
        assert (move.state, move.current_sha256) == ("RolledBack", first.spec.sha256)
        assert "digest" in move.message
        assert server.devices[NAME].states("two") == [*WAY[:3], "RollingBack", "RolledBack"]
        assert current(state) == first.spec.sha256
        assert list((state / "partial").iterdir()) == []
        goes_on_serving(server, first.spec.version)
        assert agent.children() == child
        server.spoil = flip
        server.offer(NAME, server.artifact("three", model, golden_for(model)))
        assert "came where" in settled(server, "three").message


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"wrong_by": 1.0}, r"golden vectors disagree: y, sample \d: got -?[\d.]+, expected -?[\d.]+"),
        ({"latency_p95_seconds": 1e-7}, r"too slow here: p95 [\d.]+ ms, at most 0\.0001 ms allowed"),
        ({"memory_bytes": 1}, r"too much memory here: [\d.]+ MiB above the runtime's own, at most 0\.0 MiB allowed"),
    ],
)
def test_a_candidate_that_is_not_fit_for_the_device_is_refused_with_the_figures(
    server: AgentServer, state: Path, limits: dict[str, float], said: str
) -> None:
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        first = good(server, "one", 1)
        model, wrong_by = dense_model(2), limits.pop("wrong_by", 0.0)
        server.offer(NAME, server.artifact("two", model, golden_for(model, wrong_by=wrong_by), **limits))
        move = settled(server, "two")
        assert move.state == "RolledBack"
        assert re.fullmatch(said, move.message)
        assert server.devices[NAME].states("two") == [*WAY[:5], "RollingBack", "RolledBack"]
        assert current(state) == first.spec.sha256
        goes_on_serving(server, first.spec.version)


def test_what_cannot_be_installed_is_refused_before_a_byte_is_fetched(server: AgentServer, state: Path) -> None:
    model = dense_model(1)
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        foreign = server.artifact("foreign", model, golden_for(model))
        foreign.spec.runtime = "tflite"
        huge = server.artifact("huge", model, golden_for(model))
        huge.spec.size_bytes = 2**39
        sly = server.artifact("sly", model, golden_for(model))
        sly.spec.file_name = "../../model.onnx"
        for assignment, said in ((foreign, "no runtime 'tflite'"), (huge, "no room on the disk"), (sly, "plain file name")):
            server.offer(NAME, assignment)
            move = settled(server, assignment.id)
            assert move.state == "RolledBack"
            assert said in move.message
        assert server.served_bytes == []
        assert not (state / "current").exists()


def test_a_file_that_is_no_model_is_refused(server: AgentServer, state: Path) -> None:
    golden = golden_for(dense_model(1))
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        server.offer(NAME, server.artifact("junk", b"not a model" * 100, golden))
        move = settled(server, "junk")
        assert move.state == "RolledBack"
        assert "could not load" in move.message


def test_a_newer_assignment_replaces_one_that_is_being_fetched(server: AgentServer, state: Path) -> None:
    server.chunk_pause = 0.2
    large = dense_model(1, hidden=8000)
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        server.offer(NAME, server.artifact("old", large, golden_for(large)))
        wait_until(lambda: "Fetching" in server.devices[NAME].states("old"), "fetching")
        assignment = good(server, "new", 2)
        assert "Committed" not in server.devices[NAME].states("old")
        assert current(state) == assignment.spec.sha256
        assert list((state / "partial").iterdir()) == []


def test_a_crash_in_traffic_is_followed_by_a_restart_and_three_by_a_roll_back(server: AgentServer, state: Path) -> None:
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        first, second = good(server, "one", 1), good(server, "two", 2)
        for strike in range(3):
            wait_until(lambda: len(agent.children()) == 1, "a model process")
            goes_on_serving(server, second.spec.version, 2)
            (child,) = agent.children()
            subprocess.run(["/bin/kill", "-9", str(child)], check=True)
            wait_until(lambda child=child: child not in agent.children(), f"death {strike}")
        wait_until(lambda: server.devices[NAME].last("two").state == "RolledBack", "roll-back")
        move = server.devices[NAME].last("two")
        assert "SIGKILL" in move.message
        assert move.current_sha256 == first.spec.sha256 == current(state)
        goes_on_serving(server, first.spec.version)
        assert server.devices[NAME].total(second.spec.version, "error") >= 1


def test_kill_9_while_fetching_resumes_from_the_bytes_that_are_there(server: AgentServer, state: Path) -> None:
    server.chunk_pause = 0.05
    large = dense_model(1, hidden=8000)
    assignment = server.artifact("one", large, golden_for(large))
    server.wanted[NAME] = assignment
    partial = state / "partial" / assignment.spec.sha256
    with running(server, state) as agent:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 200_000, "some bytes")
        agent.kill()
    held = partial.stat().st_size
    assert 200_000 < held < len(large)
    with running(server, state):
        assert settled(server, "one").state == "Committed"
    offsets = [offset for sha256, offset in server.served_bytes if sha256 == assignment.spec.sha256]
    assert offsets == [0, held]


def test_kill_9_in_the_trial_takes_the_model_with_it_and_goes_on_after_a_restart(server: AgentServer, state: Path) -> None:
    slow = slow_model()
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        first = good(server, "one", 1)
        server.offer(NAME, server.artifact("two", slow, golden_for(slow)))
        wait_until(lambda: agent.position().get("state") == "Trial", "trial")
        children = agent.children()
        agent.kill()
        assert len(children) == 2
        wait_until(lambda: not any(alive(child) for child in children), "the children die with the agent")
        assert agent.position()["state"] == "Trial"
        assert current(state) == first.spec.sha256
    with running(server, state):
        assert settled(server, "two").state == "Committed"
        assert current(state) == server.wanted[NAME].spec.sha256


def test_a_candidate_that_takes_the_agent_down_again_and_again_is_blamed(server: AgentServer, state: Path) -> None:
    slow = slow_model()
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        first = good(server, "one", 1)
        server.offer(NAME, server.artifact("two", slow, golden_for(slow)))
        wait_until(lambda: agent.position().get("state") in ("Probing", "Trial"), "a candidate that runs")
        agent.kill()
    for restart in range(1, 4):
        with running(server, state) as agent:
            wait_until(lambda agent=agent, n=restart: agent.position().get("restarts") == n, f"restart {restart}")
            agent.kill()
    with running(server, state):
        wait_until(lambda: server.devices[NAME].last("two").state == "RolledBack", "roll-back")
        assert "went down 4 times in Probing" in server.devices[NAME].last("two").message
        goes_on_serving(server, first.spec.version)


def test_without_a_server_it_goes_on_serving_and_delivers_what_it_counted_later(server: AgentServer, state: Path) -> None:
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        assignment = good(server, "one", 1)
        version, device = assignment.spec.version, server.devices[NAME]
        goes_on_serving(server, version)
        server.stop()
        before, seen, (child,) = device.total(version), len(device.batches), agent.children()
        time.sleep(1.0)  # the outage itself
        assert agent.children() == [child]
        server.start()
        wait_until(lambda: device.hellos == 2, "the agent comes back by itself")
        wait_until(lambda: len(device.batches) > seen, "a report")
        assert device.batches[seen].reports[0].inferences["ok"] > before
        assert device.hello.current_sha256 == assignment.spec.sha256
        assert (device.hello.assignment, device.hello.state) == ("one", "Committed")
        wait_until(lambda: device.moves[-1].state == "Committed", "the state again")
        assert device.states("one").count("Preflight") == 1


def test_a_restart_without_a_server_serves_and_the_totals_of_both_boots_arrive_once(server: AgentServer, state: Path) -> None:
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        version, device = good(server, "one", 1).spec.version, server.devices[NAME]
        goes_on_serving(server, version)
        first_boot = device.hello.boot_id
        server.stop()
        time.sleep(0.5)  # inferences that only the agent knows of
        assert agent.terminate() == 0
    known = device.reports[(first_boot, version)].inferences["ok"]
    with running(server, state) as agent:
        wait_until(lambda: f"serving vision {version}" in agent.log.rpartition("stopped")[2], "serving without a server")
        server.start()
        wait_until(lambda: len(device.reports) == 2, "reports of both boots")
        second_boot = device.hello.boot_id
        assert device.reports[(first_boot, version)].inferences["ok"] > known
        goes_on_serving(server, version)
        assert set(device.reports) == {(first_boot, version), (second_boot, version)}


def test_unacknowledged_reports_come_again_and_never_fall(server: AgentServer, state: Path) -> None:
    server.acknowledge = False
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        version, device = good(server, "one", 1).spec.version, server.devices[NAME]
        goes_on_serving(server, version, 20)
        batches = list(device.batches)
        assert [batch.sequence for batch in batches] == sorted({batch.sequence for batch in batches})
        totals = [sum(batch.reports[0].bucket_counts) for batch in batches]
        assert totals == sorted(totals)
        assert all(len(batch.reports) == 1 for batch in batches)


def test_sigterm_ends_it_at_once_with_its_children_and_a_goodbye(server: AgentServer, state: Path) -> None:
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        version = good(server, "one", 1).spec.version
        goes_on_serving(server, version)
        children = agent.children()
        began = time.monotonic()
        assert agent.terminate() == 0
        assert time.monotonic() - began < 2.0
        assert not any(alive(child) for child in children)
        wait_until(lambda: server.devices[NAME].said_goodbye, "goodbye")
        assert "Traceback" not in agent.log


def test_an_unknown_profile_is_one_line_and_exit_code_1(server: AgentServer, state: Path) -> None:
    agent = Agent(server, state, profile="camm")
    assert agent.process.wait(20) == 1
    agent.end()
    assert [line for line in agent.log.splitlines() if line.startswith("error")] == [
        f"error: 127.0.0.1:{server.port} refused this agent: profile 'camm' does not exist"
    ]
    assert "Traceback" not in agent.log


def test_a_second_agent_on_the_same_folder_is_refused(server: AgentServer, state: Path) -> None:
    with running(server, state) as first:
        wait_until(lambda: NAME in server.devices, "hello")
        command = [sys.executable, "-m", "edge_compress.agent", to_line(Setup("127.0.0.1:1", "cam", "cam-02", str(state)))]
        second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert second.returncode == 1
        assert second.stderr == f"error: another agent uses the state folder {state}; give this one its own with --state\n"
        assert first.process.poll() is None


def test_an_address_beyond_this_machine_needs_insecure(state: Path) -> None:
    command = [sys.executable, "-m", "edge_compress.agent", to_line(Setup("10.0.0.1:50551", "cam", "cam-02", str(state)))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "--insecure" in done.stderr
    assert not state.exists()


def test_neither_process_loads_what_it_has_no_use_for(server: AgentServer, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        goes_on_serving(server, good(server, "one", 1).spec.version)
        (child,) = agent.children()
        maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (agent.process.pid, child)}
        assert agent.terminate() == 0
    imported = {line.split("'")[1].partition(".")[0] for line in agent.log.splitlines() if line.startswith("import '")}
    assert {"grpc", "onnxruntime"} <= imported
    assert imported.isdisjoint({"torch", "onnx", "pluggy", "typer", "rich", "yaml", "prometheus_client"})
    assert "onnxruntime" not in maps[agent.process.pid]
    assert "numpy" not in maps[agent.process.pid]
    assert "grpc" not in maps[child]
    assert children_of(agent.process.pid) == []


@pytest.mark.parametrize(("flags", "becomes_another"), [([], False), (["--debug"], True)], ids=["plain", "full"])
def test_the_command_becomes_the_agent_and_leaves_its_own_libraries_behind(
    server: AgentServer, state: Path, flags: list[str], becomes_another: bool
) -> None:
    """Words that need no command line are read without it; others go through it and then start the agent in its place."""
    command = [sys.executable, "-m", "edge_compress", "agent", "--server", f"127.0.0.1:{server.port}", "--profile", "cam"]
    words = ["--name", NAME, "--state", str(state), "--labels", "site=plant-1", *flags]
    agent = Agent(server, state, command=[*command, *words])
    try:
        wait_until(lambda: NAME in server.devices, "hello")
        assert dict(server.devices[NAME].hello.labels) == {"site": "plant-1"}
        words_now = Path(f"/proc/{agent.process.pid}/cmdline").read_bytes()
        assert (b"edge_compress.agent" in words_now) is becomes_another
        assert (state / "journal").parent.is_dir()
        assert agent.terminate() == 0
    finally:
        agent.end()


def test_two_agents_of_one_name_do_not_chase_each_other_at_full_speed(server: AgentServer, state: Path) -> None:
    with running(server, state), running(server, state.with_name("other")):
        wait_until(lambda: NAME in server.devices and server.devices[NAME].hellos >= 3, "a chase")
        began, before = time.monotonic(), server.devices[NAME].hellos
        wait_until(lambda: time.monotonic() - began > 3.0, "some seconds of it")
        assert server.devices[NAME].hellos - before <= 12


def test_a_device_takes_the_best_artifact_that_fits_it_without_asking_again(server: AgentServer, state: Path) -> None:
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        model, golden = dense_model(1), golden_for(dense_model(1))
        assignment = server.artifact("one", model, golden_for(model, wrong_by=1.0))
        best, spoilt = assignment.artifact, server.artifact("", b"not a model" * 100, golden)
        good_one = server.artifact("", dense_model(3), golden_for(dense_model(3)))
        for other in (spoilt, good_one):
            assignment.fallbacks.add(artifact=other.artifact, spec=other.spec)
        server.offer(NAME, assignment)
        move = settled(server, "one")
        assert (move.state, move.current_sha256) == ("Committed", good_one.spec.sha256)
        assert move.current_sha256 == current(state)
        assert move.message.startswith(f"not {best}: golden vectors disagree: y, sample")
        assert f"; not {spoilt.artifact}: the model process could not load: " in move.message
        assert server.devices[NAME].states("one") == [*WAY[:5], *WAY[:5], *WAY]
        goes_on_serving(server, good_one.spec.version)
        assert [path.name for path in (state / "slots").iterdir()] == [good_one.spec.sha256]
        worse = server.artifact("two", model, golden_for(model, wrong_by=1.0))
        worse.fallbacks.add(artifact=spoilt.artifact, spec=spoilt.spec)
        server.offer(NAME, worse)
        move = settled(server, "two")
        assert (move.state, move.current_sha256) == ("RolledBack", good_one.spec.sha256)
        assert move.message.startswith(f"not {best}: golden vectors disagree")
        assert "could not load" in move.message


def test_what_serves_is_stopped_first_when_memory_cannot_hold_both(server: AgentServer, state: Path) -> None:
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        first = good(server, "one", 1)
        goes_on_serving(server, first.spec.version)
        wait_until(lambda: server.devices[NAME].resident_bytes > 65 << 20, "a heartbeat with the memory of both processes")
        held = server.devices[NAME].resident_bytes
    with running(server, state, memory_budget=held + (40 << 20)) as agent:
        goes_on_serving(server, first.spec.version)
        model = dense_model(2)
        server.offer(NAME, server.artifact("bad", model, golden_for(model, wrong_by=1.0)))
        move = settled(server, "bad")
        assert (move.state, move.current_sha256) == ("RolledBack", first.spec.sha256)
        goes_on_serving(server, first.spec.version)
        server.offer(NAME, server.artifact("good", model, golden_for(model)))
        move = settled(server, "good")
        assert move.state == "Committed", move.message
        assert move.message.startswith("what served was stopped while this was tried, for memory cannot hold both: about 64 MiB")
        assert len(agent.children()) == 1
    with running(server, state, memory_budget=1 << 20):
        model = dense_model(3)
        server.offer(NAME, server.artifact("none", model, golden_for(model)))
        assert settled(server, "none").message.startswith("no room in memory: about 64 MiB of memory are needed, 0 MiB are free")


def test_an_update_waits_for_the_maintenance_window_and_says_so(server: AgentServer, state: Path) -> None:
    now = time.localtime()
    hour = (now.tm_hour + 12) % 24
    with running(server, state, maintenance_window=f"{hour:02}:00-{hour:02}:30"):
        wait_until(lambda: NAME in server.devices, "hello")
        model = dense_model(1)
        server.offer(NAME, server.artifact("one", model, golden_for(model)))
        wait_until(lambda: (move := server.devices[NAME].last("one")) and move.waits, "it waits")
        move = server.devices[NAME].last("one")
        assert (move.state, move.message) == ("Preflight", f"waits for the maintenance window {hour:02}:00-{hour:02}:30")
        assert server.served_bytes == []
    with running(server, state):
        move = settled(server, "one")
        assert (move.state, move.message, move.waits) == ("Committed", "", False)


def test_only_differences_are_fetched_where_only_they_are_allowed(server: AgentServer, state: Path) -> None:
    with running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        model = dense_model(1)
        server.offer(NAME, server.artifact("none", model, golden_for(model), differences_only=True))
        assert "nothing here that they could go to" in settled(server, "none").message
        assert server.served_bytes == []
        assert server.devices[NAME].hello.facts.cores >= 1
