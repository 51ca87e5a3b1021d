"""Rollouts as people steer them: a real server and real agents in processes of their own, told what to do by the command line."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_compress.errors import InvalidInput
from edge_compress.predict import Predictor
from tests.integration.real_fleet import Fleet, until
from tests.processes import children_of


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        made.declare()
        for name in made.names:
            made.start_agent(name)
        yield made
    finally:
        made.stop()


def test_a_rollout_is_paused_promoted_and_undone(fleet: Fleet) -> None:
    until(lambda: len(fleet.devices()) == 3)
    fleet.apply("quantize.float16", "{}")
    until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
    first = fleet.versions()
    assert len(set(first.values())) == 1

    fleet.apply("quantize.weights", "{steps: [30%, 100%], min_executed: 1, soak: 1h}")
    until(lambda: fleet.rollout("digits-2")["devices"] == {"Committed": 1, "Waiting": 2})
    said = fleet.done("rollout", "why", "digits")
    assert said.startswith("rollout/digits-2 Progressing: step 1 of 2: 1 of 1 good, 0 failed")
    assert "step 1 of 2 is for 30% of the devices" in said
    assert "if it fails, devices go back to digits-1" in said

    assert fleet.done("rollout", "pause", "digits", "--reason", "weekend") == "rollout/digits-2 Paused: paused: weekend\n"
    until(lambda: "paused: weekend" in fleet.rollout("digits-2")["message"])
    assert fleet.done("rollout", "status", "digits").startswith("rollout/digits-2 Paused: ")
    assert len(set(fleet.versions().values())) == 2
    fleet.done("rollout", "resume", "digits-2")
    assert "promoted to step 2" in fleet.done("rollout", "promote", "digits")
    until(lambda: fleet.rollout("digits-2")["devices"] == {"Committed": 3})
    fleet.done("rollout", "promote", "digits")
    assert "Completed" in fleet.done("rollout", "status", "digits", "--watch").splitlines()[-1]
    second = fleet.versions()
    assert set(second.values()).isdisjoint(first.values())

    refused = fleet.cli("rollout", "abort", "digits")
    assert (refused.returncode, refused.stderr) == (
        1,
        "error: rollout digits-2: it is Completed already: there is nothing to abort\n",
    )
    assert "undone: it runs hot; devices go back to digits-1" in fleet.done(
        "rollout", "undo", "digits", "--reason", "it runs hot"
    )
    until(lambda: fleet.versions() == first)
    assert fleet.cli("rollout", "status", "digits").returncode == 1
    missing = fleet.cli("rollout", "why", "nothing")
    assert (missing.returncode, missing.stderr) == (1, "error: Rollout 'nothing' does not exist\n")


def test_an_abort_reaches_a_canary_that_was_away_and_survives_kill_9_of_the_server(fleet: Fleet) -> None:
    until(lambda: len(fleet.devices()) == 3)
    fleet.apply("quantize.float16", "{}")
    until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
    first = fleet.versions()
    fleet.apply("quantize.weights", "{steps: [30%, 100%], min_executed: 1, soak: 1h}")
    until(lambda: fleet.rollout("digits-2")["devices"] == {"Committed": 1, "Waiting": 2})
    (canary,) = [name for name, version in fleet.versions().items() if version != first[name]]
    fleet.agents[canary].send_signal(signal.SIGKILL)
    fleet.agents[canary].wait()
    fleet.done("rollout", "abort", "digits")
    fleet.server.kill()
    fleet.server.start()
    assert fleet.rollout("digits-2")["state"] == "Aborted"
    fleet.start_agent(canary)
    until(lambda: fleet.versions() == first)
    assert until(lambda: fleet.devices()[canary]["connected"])


def test_a_gate_holds_a_rollout_until_the_reports_of_both_groups_tell(fleet: Fleet) -> None:
    until(lambda: len(fleet.devices()) == 3)
    fleet.apply("quantize.float16", "{}")
    until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
    gate = "{metric: energy_per_inference, max_increase: 20}"
    fleet.apply("quantize.weights", f"{{steps: [30%, 100%], min_executed: 1, gates: [{gate}]}}")
    paused = until(lambda: (told := fleet.rollout("digits-2"))["state"] == "Paused" and told)
    assert paused["held"].startswith("gate energy_per_inference is inconclusive: ")
    assert "it goes on by itself once every gate holds" in fleet.done("rollout", "why", "digits")
    until(lambda: fleet.rollout("digits-2")["state"] == "Completed")
    why = fleet.done("rollout", "why", "digits")
    assert "  gate energy_per_inference: Pass, cam: " in why
    assert "mJ an inference (estimates); " in why


def sent(fleet: Fleet, kind: str) -> float:
    """Bytes of that kind that the server has counted."""
    text = urllib.request.urlopen(f"http://{fleet.server.metrics}/metrics", timeout=30).read().decode()
    found = re.search(rf'edge_compress_transfer_bytes_total{{kind="{kind}"}} (\S+)', text)
    return float(found[1]) if found else 0.0


def test_an_update_travels_as_differences_and_whole_where_the_device_has_something_else(fleet: Fleet) -> None:
    until(lambda: len(fleet.devices()) == 3)
    fleet.apply("prune.magnitude", "{}", "{ratio: 0.1}")
    until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
    first, whole = fleet.versions(), sent(fleet, "full")
    assert whole > 1e6
    assert sent(fleet, "delta") == 0
    (folder,) = (fleet.folder / "cam-2" / "slots").iterdir()
    model = folder / "model.onnx"
    model.chmod(0o600)
    spoilt = bytearray(model.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    model.write_bytes(spoilt)  # the running process has it in memory: nothing is noticed until a difference is made to it

    fleet.apply("prune.magnitude", "{steps: [30%, 100%]}", "{ratio: 0.11}")
    until(lambda: fleet.rollout("digits-2")["state"] == "Completed")
    second = fleet.versions()
    assert len(set(second.values())) == 1
    assert set(second.values()).isdisjoint(first.values())
    again = sent(fleet, "full") - whole
    assert 0 < sent(fleet, "delta") < 0.2 * whole
    assert again < 0.6 * whole, "one of three had to fetch all of it"
    assert "all of it is fetched" in (fleet.folder / "cam-2.log").read_text()
    for name in fleet.names:
        file = fleet.folder / name / "current" / "model.onnx"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == second[name]


def test_applications_are_answered_through_a_swap_and_the_death_of_the_model_process(fleet: Fleet) -> None:
    import numpy as np

    until(lambda: len(fleet.devices()) == 3)
    image = np.random.default_rng(0).normal(size=(1, 1, 28, 28)).astype(np.float32)
    with Predictor(fleet.folder / "cam-1" / "predict.sock") as model:
        fleet.apply("quantize.float16", "{}")
        until(lambda: fleet.rollout("digits-1")["state"] == "Completed")
        (wanted,) = model({"image": image}).values()
        with pytest.raises(InvalidInput, match="inputs: "):
            model({"picture": image})
        with pytest.raises(InvalidInput, match="too long"):
            model({"image" * 1000: image})
        versions, stop = [model.version], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                (got,) = model({"image": image}).values()
                assert np.allclose(got, wanted, atol=0.05 * np.abs(wanted).max())
                versions.append(model.version)

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            try:
                fleet.apply("prune.magnitude", "{min_executed: 1}", "{ratio: 0.01}")
                until(lambda: fleet.rollout("digits-2")["state"] == "Completed")
                (pid,) = children_of(fleet.agents["cam-1"].pid)
                os.kill(pid, signal.SIGKILL)
                answered = len(versions)
                until(lambda: len(versions) > answered + 20 or asking.done())
            finally:
                stop.set()
            asking.result()
    assert len(set(versions)) == 2, "both versions answered, and no call failed"
