"""``edge-compress demo`` as a newcomer runs it: the whole story with real processes, and none left however it ends."""

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_compress.demo import story
from tests.processes import parents

pytestmark = pytest.mark.timeout(600)
PROFILES = ("hub", "cam", "meter", "pendant")


@pytest.fixture
def demo(tmp_path):
    """Starts the demo with its temporary folders under ``tmp_path``; returns the process. Whatever is left is killed."""
    started = []
    (tmp_path / "tmp").mkdir()

    def start(*arguments):
        command = [sys.executable, "-m", "edge_compress", "demo", *arguments]
        environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "COLUMNS": "200"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def descendants(pid):
    table = parents()
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in table.items() if parent in new} - found
        found |= new
    return found


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_the_whole_story(demo, tmp_path):
    process = demo("--out", str(tmp_path / "out"))
    shown, errors = process.communicate(timeout=500)
    assert process.returncode == 0, shown + errors
    rows = {
        line.split()[0]: line
        for line in shown.splitlines()
        if line.split() and line.split()[0] in PROFILES and "FEASIBLE" in line
    }
    assert set(rows) == set(PROFILES)
    assert "INFEASIBLE" in rows["pendant"]
    for profile in ("hub", "cam", "meter"):
        assert re.search(r" KiB .* KiB .*\d % .* ms .* [KM]iB .* mJ \(estimate\) .*\w\.\w", rows[profile]), rows[profile]
        assert re.search(rf"{profile}-01: \d+ inferences of digits [0-9a-f]{{12}}, p95 .* mJ each \(estimate\)", shown)
    assert "pendant is INFEASIBLE by storage" in shown
    assert "no process is left" in shown
    check_results(tmp_path / "out")
    assert list((tmp_path / "tmp").iterdir()) == []


def check_results(out):
    """Artifacts are what the report says, and the metrics show every profile that was served."""
    report = json.loads((out / "report.json").read_text())["models"]["digits"]
    for profile in PROFILES:
        result = report["profiles"][profile]
        assert hashlib.sha256((out / result["artifact"]).read_bytes()).hexdigest() == result["sha256"]
        assert result["quality"]["drop"] <= 0.01
    assert report["float"]["quality"]["value"] >= 0.99
    assert report["profiles"]["pendant"]["binding_constraint"] == "storage"
    assert report["profiles"]["meter"]["bytes"] <= 320 * 1024 < report["float"]["bytes"]
    assert story.read_metrics((out / "metrics.txt").read_text()).missing(["hub", "cam", "meter"]) == []
    assert "<svg" in (out / "report.html").read_text(encoding="utf-8")


def playing(process):
    """The demo's processes once a worker child is at it: the server and at least one child of the server."""
    found = descendants(process.pid)
    commands = [command_of(pid) for pid in found]
    serving = any(" server " in command for command in commands)
    return found if serving and any("edge_compress.worker" in command for command in commands) else None


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_no_process_outlives_a_demo_that_is_stopped(demo, tmp_path, wait_for, sent, code):
    process = demo("--out", str(tmp_path / "out"))
    seen = wait_for("the server and a worker child run", lambda: playing(process), 90)
    assert len(seen) >= 2
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    wait_for("every process is gone", lambda: not seen & set(parents()), 30)
    if sent != signal.SIGKILL:
        assert list((tmp_path / "tmp").iterdir()) == []


def test_a_failure_is_one_clear_line(demo, tmp_path):
    (tmp_path / "out").write_text("in the way")
    process = demo("--out", str(tmp_path / "out"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert errors.startswith("error: the demo failed: ")
    assert str(tmp_path / "out") in errors


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def story_lines():
    block = re.search(r"## The story in six commands\n\n```\n(.*?)```", README, re.S)[1]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def test_the_readme_story_runs_as_written(stand, fleet, monkeypatch, wait_for):
    """The short verbs in their order; ``compress`` has tests of its own, ``--watch`` never ends."""
    monkeypatch.chdir(fleet.parent)
    for verb, *rest in story_lines():
        if verb == "server":
            stand.start_server(*rest)
        elif verb == "agent":
            stand.start_agent("cam", "cam-01", *rest[rest.index("--labels") :])
            wait_for("the agent is known", lambda: stand.get("Device"))
        elif verb != "compress":
            shown = stand.cli(verb, *[word for word in rest if word != "--watch"]).stdout
            assert {"apply": "profile/cam created", "plan": "quantize.static", "get": "cam-01"}[verb] in shown


def test_the_readme_client_example_runs(stand, fleet, monkeypatch, capsys):
    monkeypatch.chdir(fleet.parent)
    stand.start_server()
    source = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "Client" in block)
    exec(compile(source.replace("127.0.0.1:50551", stand.address), "README.md", "exec"), {})
    assert [item["metadata"]["name"] for item in stand.get("Model")] == ["digits"]
    assert all(len(line.split()) == 3 for line in capsys.readouterr().out.splitlines())
