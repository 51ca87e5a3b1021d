"""Exit codes and errors: one line on stderr, a traceback only when asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from edge_compress import __version__
from edge_compress.cli.app import explained
from edge_compress.errors import Corrupt, Infeasible, InvalidSpec
from tests.unit.cli.conftest import Command


def one_line(text: str) -> str:
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def test_version_and_usage(command: Command) -> None:
    assert command(["version"]).out == f"edge-compress {__version__}\n"
    assert command(["--version"]).out == f"edge-compress {__version__}\n"
    unknown = command(["frobnicate"])
    assert (unknown.code, unknown.out) == (2, "")
    assert "frobnicate" in unknown.err
    assert command(["get", "jobs", "--frob"]).code == 2
    assert command(["apply"]).code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["get", "jobs", "-o", "tabel"], "did you mean 'table'?"),
        (["get", "jobs", "-l", "site"], "--selector"),
        (["get", "frobs"], "did you mean 'jobs'?"),
        (["get", "jobs", "--timeout", "soon"], "--timeout"),
        (["get", "jobs", "--server", "nowhere"], "--server"),
        (["agent"], "--profile"),
        (["agent", "--profile", "cam", "--labels", "x"], "--labels"),
        (["server", "--workers", "0"], "--workers"),
        (["server", "--max-model", "-1Gi"], "--max-model"),
        (["server", "--device-metrics", "-1"], "--device-metrics"),
        (["top", "-o", "yaml"], "--output"),
        (["compress", "-f", "x", "--out", "y", "--budget", "0s"], "--budget"),
        (["describe", "job"], "edge-compress get jobs"),
        (["delete", "job"], "edge-compress get jobs"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_of_one_line(command: Command, arguments: list[str], says: str) -> None:
    shown = command(arguments)
    assert shown.code == 2
    assert says in one_line(shown.err)


def test_no_server_is_one_line(command: Command) -> None:
    shown = command(["get", "jobs", "--server", "127.0.0.1:1"])
    assert (shown.code, shown.out) == (1, "")
    assert "no server answers at 127.0.0.1:1" in one_line(shown.err)


def test_another_machine_is_refused(command: Command) -> None:
    assert "--insecure" in one_line(command(["get", "jobs", "--server", "10.0.0.1:50551"]).err)


def test_a_broken_fleet_file_is_named_with_its_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("kind: DeviceProfile\nmetadata: {name: cam}\nspec:\n  memroy: 64Mi\n")
    for arguments in (["apply"], ["plan"], ["delete"], ["compress", "--out", str(tmp_path / "out")]):
        shown = command([*arguments, "-f", str(tmp_path / "fleet.yaml")])
        assert shown.code == 1
        assert "fleet.yaml:4: spec.memroy" in one_line(shown.err)
        assert "did you mean 'memory'?" in shown.err
    assert not (tmp_path / "out").exists()
    assert "does not exist" in one_line(command(["apply", "-f", str(tmp_path / "absent.yaml")]).err)


def test_the_same_resource_in_two_files_is_refused(command: Command, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("kind: DeviceProfile\nmetadata: {name: cam}\n")
    shown = command(["plan", "-f", str(tmp_path / "a.yaml"), "-f", str(tmp_path / "b.yaml")])
    assert "declared again" in one_line(shown.err)


def test_the_schema_accepts_what_we_accept(command: Command) -> None:
    schema = json.loads(command(["schema"]).out)
    good = yaml.safe_load("{kind: DeviceProfile, metadata: {name: cam}, spec: {memory: 64Mi}}")
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, "spec": {"memroy": "64Mi"}}, schema)


def test_every_error_has_its_exit_code() -> None:
    assert explained(Infeasible("too big")) == ("too big", 3)
    assert explained(InvalidSpec.at("--budget", "x", "a time"))[1] == 2
    assert explained(InvalidSpec.at("spec.memory", "x", "a size"))[1] == 1
    assert explained(Corrupt("no"))[1] == 1
    assert explained(ModuleNotFoundError("No module named 'pluggy'", name="pluggy"))[0].endswith("'edge-compress[server]'")
    message, code = explained(KeyError("lost"))
    assert ("--debug" in message, code) == (True, 1)


def test_debug_shows_where_it_comes_from(tmp_path: Path) -> None:
    for position in (["--debug", "apply", "-f", "absent.yaml"], ["apply", "-f", "absent.yaml", "--debug"]):
        shown = subprocess.run([sys.executable, "-m", "edge_compress", *position], capture_output=True, text=True, cwd=tmp_path)
        assert "Traceback" in shown.stderr
        assert shown.returncode == 1


def test_a_broken_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    shown = subprocess.run([sys.executable, "-m", "edge_compress", "schema"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert shown.stderr == ""


def test_ctrl_c_is_quiet(server: object, cli: Command) -> None:
    command = [sys.executable, "-m", "edge_compress", "get", "profiles", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"NAME")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, b"")
