"""Each verb that talks to a server, as a person uses it: one server, one small model compressed for one profile, one agent.

Refusals are ``test_bad_input``'s and ``test_bad_place``'s business, ``compress`` is ``test_verbs_compress``'s.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_compress import Client
from edge_compress.cli.app import run
from tests.e2e.tiny import inventory, refused, said

Wait = Callable[..., Any]
Shell = Callable[..., str]
DECLARED = {"profiles": "profile/cam", "models": "model/digits", "recipes": "recipe/tidy", "deployments": "deployment/digits"}
MADE = {"jobs": "job/digits-cam-", "artifacts": "artifact/digits-", "devices": "device/cam-1", "rollouts": "rollout/digits-1"}
KINDS = {**DECLARED, **MADE, "plugins": "plugin/quantize"}


@pytest.fixture(scope="module")
def story(served: Any, tiny_files: Path) -> Any:
    """The server with the fleet applied, its job ended and an agent that serves the artifact."""
    served.cli("apply", "-f", str(tiny_files / "fleet.yaml"), "--wait")
    served.start_agent("cam", "cam-1", "--labels", "site=plant-1", "--self-test-rate", "20/s", "--report", "0.5s")
    with Client(served.address) as client:
        for change in client.watch("Device", "cam-1", seconds=90):
            if change.resource.status.state == "Committed" and change.resource.status.inferences:
                return served
    raise AssertionError(f"the agent has not committed:\n{served.log('cam-1')}")


@pytest.fixture
def shell(story: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line in this process, where many commands would cost many starts; what it prints."""
    monkeypatch.setenv("EDGE_COMPRESS_SERVER", story.address)

    def type_in(*arguments: str) -> str:
        code: Any = 0
        try:
            run(arguments)
        except SystemExit as ended:
            code = ended.code
        shown = capsys.readouterr()
        if code:
            pytest.fail(f"{arguments}: exit {code}: {shown.err}")
        return shown.out

    return type_in


def piped(stand: Any, text: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb in ``folder`` with ``text`` on its standard input."""
    command = [sys.executable, "-m", "edge_compress", *arguments, "--server", stand.address]
    return subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, timeout=60, check=True)


# apply, plan, delete


def test_apply_takes_a_file_a_folder_and_standard_input_and_twice_changes_nothing(stand: Any, tiny: Path) -> None:
    stand.start_server()
    first = stand.cli("apply", "-f", str(tiny))
    assert first.stdout.splitlines() == [f"{name} created" for name in DECLARED.values()]
    assert said(first.stderr) == []
    before = inventory(stand)
    folder = tiny.parent / "fleet"
    folder.mkdir()
    for index, document in enumerate(tiny.read_text().replace(": digits.onnx", ": ../digits.onnx").split("---\n")):
        text = document.replace(" calib.npz", " ../calib.npz").replace(" val.npz", " ../val.npz")
        (folder / f"{9 - index}.yaml").write_text(text)
    again = stand.cli("apply", "-f", str(folder)).stdout.splitlines()
    assert [line for line in again if "unchanged" not in line] == ["model/digits configured"], "its paths are written otherwise"
    from_stdin = piped(stand, tiny.read_text(), "apply", "-f", "-", folder=tiny.parent).stdout
    assert "model/digits configured" in from_stdin
    assert from_stdin.count("unchanged") == 3
    assert {(kind, name) for kind, name, _ in inventory(stand) if kind != "Job"} >= {
        (kind, name) for kind, name, _ in before if kind not in ("Job", "Rollout", "Artifact")
    }
    assert stand.cli("apply", "-f", str(tiny)).stdout.count("unchanged") == 4
    assert stand.cli("delete", "-f", str(tiny)).stdout.splitlines() == [f"{name} deleted" for name in reversed(DECLARED.values())]


def test_a_dry_run_says_what_would_be_and_changes_nothing(stand: Any, tiny: Path) -> None:
    stand.start_server()
    assert stand.cli("apply", "-f", str(tiny), "--dry-run").stdout.count("created (dry run)") == 4
    assert inventory(stand) == set()


def test_apply_waits_for_the_jobs_of_what_it_changed(story: Any, tiny: Path) -> None:
    """Also when earlier jobs of the same deployment have ended long ago."""
    text = tiny.read_text().replace("name: cam,", "name: den,").replace("[cam]", "[den]")
    text = text.replace("kind: Deployment\nmetadata: {name: digits}", "kind: Deployment\nmetadata: {name: two}")
    for storage, code in (("2Mi", 0), ("100", 3)):
        tiny.write_text(text.replace("storage: 1Mi", f"storage: {storage}"))
        done = story.cli("apply", "-f", str(tiny), "--wait", code=code)
        with Client(story.address) as client:
            deployment = client.get("Deployment", "two")
            assert deployment.status.observed_generation == deployment.metadata.generation
            jobs = [job for job in client.jobs(labels={"deployment": "two"}) if job.spec.profile == "den"]
            newest = max(jobs, key=lambda job: job.metadata.created_at)
            assert newest.status.state == ("Infeasible" if code else "Succeeded")
    assert said(done.stderr)[-1].startswith("digits for den: Infeasible: storage")
    story.cli("delete", "deployment", "two")
    story.cli("delete", "profile/den")


def test_a_plan_says_what_would_change_and_changes_nothing(story: Any, tiny: Path) -> None:
    before = inventory(story)
    with Client(story.address) as client:
        revision = client.get("Deployment", "digits").metadata.revision
    same = story.cli("plan", "-f", str(tiny)).stdout
    assert same.count("stay unchanged") == 4
    done = r"digits for cam \(deployment digits\): done already \(digits-[0-9a-f]{12}\): nothing would be computed"
    assert re.search(rf"{done}; 1 device\(s\), 0 B to send", same)
    text = tiny.read_text().replace("memory: 64Mi", "memory: 65Mi").replace("recipe: tidy", "recipe: auto")
    tiny.write_text(text.replace("compute: {", "compute: {fp32: 1GFLOPS, "))
    other = story.cli("plan", "-f", str(tiny)).stdout
    assert "profile/cam would be configured" in other
    assert re.search(r"digits for cam \(deployment digits\): [1-9]\d* to try; 1 device\(s\), [\d.]+ \w+ to send", other)
    assert re.search(r"quantize\.static .*would be tried", other)
    assert re.search(r"quantize\.float16.*refused: .*fp16", other)
    pair = json.loads(story.cli("plan", "-f", str(tiny), "-o", "json").stdout)["pairs"][0]
    assert {"bytes", "download_bytes", "latency_seconds", "memory_bytes", "energy_joules"} <= pair["candidates"][0].keys()
    assert inventory(story) == before
    with Client(story.address) as client:
        assert client.get("Deployment", "digits").metadata.revision == revision


def test_delete_by_kind_and_name(story: Any) -> None:
    with Client(story.address) as client:
        client.apply([{"kind": "DeviceProfile", "metadata": {"name": name}} for name in ("one", "two", "three")])
    assert story.cli("delete", "profile", "one", "two").stdout.splitlines() == ["profile/one deleted", "profile/two deleted"]
    assert story.cli("delete", "profiles/three").stdout == "profile/three deleted\n"
    assert refused(story, "delete", "profile", "one") == "DeviceProfile 'one' does not exist"


def test_cancel_stops_a_job_for_good(story: Any, tiny: Path, wait_for: Wait) -> None:
    text = tiny.read_text().replace("max_drop: 0.05", "max_drop: 0.04").replace("recipe: tidy", "recipe: auto")
    text = text.replace("name: digits}", "name: long}").replace("model: digits", "model: long")
    tiny.write_text(text)
    story.cli("apply", "-f", str(tiny))
    with Client(story.address) as client:

        def under_way() -> Any:
            return [job for job in client.jobs(labels={"model": "long"}) if job.status.state == "Running"]

        name = wait_for("its job runs", under_way)[0].name
        assert story.cli("cancel", name).stdout == f"job/{name} cancelled\n"
        assert client.get("Job", name).status.state == "Cancelled"
        assert story.cli("cancel", f"job/{name}").stdout == f"job/{name} cancelled\n", "once more does no harm"
        ended = next(job.name for job in client.jobs(labels={"model": "digits"}))
    assert "over already" in refused(story, "cancel", ended)
    story.cli("delete", "deployment", "long")
    story.cli("delete", "model", "long")


# get, describe


@pytest.mark.parametrize("kind", KINDS)
def test_get_in_every_form(kind: str, shell: Shell) -> None:
    table, wide = shell("get", kind).splitlines(), shell("get", kind, "-o", "wide").splitlines()
    assert table[0].startswith("NAME  ")
    assert len(wide[0].split()) >= len(table[0].split())
    names = shell("get", kind, "-o", "name").split()
    assert len(names) == len(table) - 1 == len(wide) - 1
    (name,) = [name for name in names if name.startswith(KINDS[kind])][:1]
    listed = json.loads(shell("get", kind, "-o", "json"))
    assert (listed["kind"], len(listed["items"])) == ("List", len(names))
    one = json.loads(shell("get", name, "-o", "json"))
    assert one in listed["items"]
    assert yaml.safe_load(shell("get", kind, name.partition("/")[2], "-o", "yaml")) == one
    assert len(list(yaml.safe_load_all(shell("get", kind, "-o", "yaml")))) == len(names)


@pytest.mark.parametrize(
    ("kind", "expected"),
    {
        "profiles": "memory: 64Mi",
        "models": "Profile cam: FEASIBLE",
        "recipes": "strategy: graph.optimize",
        "deployments": "Compressed   True     Feasible",
        "jobs": "chosen",
        "artifacts": "golden:",
        "devices": "state: Committed",
        "rollouts": "deployment: digits",
        "plugins": "strategy quantize.static: ",
    }.items(),
)
def test_describe_every_kind(kind: str, expected: str, shell: Shell) -> None:
    name = next(name for name in shell("get", kind, "-o", "name").split() if name.startswith(KINDS[kind]))
    text = shell("describe", name)
    assert re.search(rf"^Name: +{re.escape(name.partition('/')[2])}$", text, re.MULTILINE)
    assert expected in text


def test_what_get_prints_can_be_applied_again(story: Any, tmp_path: Path) -> None:
    for kind in ("profile", "recipe", "deployment"):
        name = DECLARED[f"{kind}s"]
        text = story.cli("get", name, "-o", "yaml").stdout
        assert piped(story, text, "apply", "-f", "-", folder=tmp_path).stdout == f"{name} unchanged\n"


def test_get_selects_by_label(story: Any) -> None:
    assert story.cli("get", "profiles", "-l", "place=gate", "-o", "name").stdout == "profile/cam\n"
    nothing = story.cli("get", "profiles", "-l", "place=roof")
    assert (nothing.stdout, nothing.stderr) == ("", "no profiles\n")


@pytest.fixture
def watching(story: Any) -> Iterator[Callable[..., Path]]:
    """Starts ``get … --watch`` as a process; gives the file that its output goes to."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> Path:
        log = f"watch{len(list(story.folder.glob('watch*')))}"
        started.append(story.spawn("get", *arguments, "--watch", "--server", story.address, log=log))
        path: Path = story.folder / f"{log}.log"
        return path

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def test_watch_shows_a_change_as_it_happens(story: Any, watching: Callable[..., Path], wait_for: Wait) -> None:
    table, lines = watching("profiles"), watching("profiles", "-o", "json")
    wait_for("both show what there is", lambda: "cam" in table.read_text() and "cam" in lines.read_text())
    with Client(story.address) as client:
        client.apply({"kind": "DeviceProfile", "metadata": {"name": "fresh"}, "spec": {"memory": "7Mi"}})
        wait_for("both show the newcomer", lambda: "fresh" in table.read_text() and "fresh" in lines.read_text(), 10)
        client.delete("DeviceProfile", "fresh")
    wait_for("the table says that it went", lambda: re.search(r"^fresh .*\(deleted\)$", table.read_text(), re.MULTILINE), 10)
    wait_for("so does JSON", lambda: "DELETED" in lines.read_text(), 10)
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    of_it = [item["type"] for item in told if item["object"]["metadata"]["name"] == "fresh"]
    assert (of_it[0], of_it[-1]) == ("ADDED", "DELETED")
    assert told[0]["object"]["kind"] == "DeviceProfile"


def test_a_watch_is_left_with_an_interrupt(story: Any, watching: Callable[..., Path], wait_for: Wait) -> None:
    shown = watching("profiles", "-o", "name")
    wait_for("it shows what there is", lambda: "profile/cam" in shown.read_text())
    process = story.started[-1]
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert shown.read_text() == "profile/cam\n", "and says nothing more"


# server, agent


def test_the_agent_is_seen_at_work_and_leaves_when_told(story: Any, wait_for: Wait) -> None:
    process = story.start_agent("cam", "cam-2", "--self-test-rate", "20/s", "--report", "0.5s")
    with Client(story.address) as client:

        def device() -> Any:
            return next((item for item in client.list("Device") if item.name == "cam-2"), None)

        wait_for("it serves", lambda: device() and device().status.state == "Committed" and device().status.inferences)
        assert device().status.p95_seconds > 0
        assert (device().status.energy_source, device().status.joules_per_inference > 0) == ("estimate", True)
        process.terminate()
        assert process.wait(20) == 0
        wait_for("the server knows", lambda: not device().status.connected, 20)
    assert "edge_compress_inferences_total{" in story.metrics()


def test_the_server_ends_when_told_and_leaves_no_process(stand: Any) -> None:
    stand.start_server()
    stand.server.terminate()
    assert stand.server.wait(20) == 0
    left = subprocess.run(["pgrep", "-f", str(stand.state)], capture_output=True, text=True, check=False).stdout.split()
    assert [pid for pid in left if int(pid) != os.getpid()] == []


# the product itself


def test_plugins_list(shell: Shell) -> None:
    assert shell("plugins", "list", "-o", "name") == shell("get", "plugins", "-o", "name")
    wide = shell("plugins", "list", "-o", "wide")
    assert re.search(r"quantize +quantize\.static +strategy +.*per_channel: bool.* = true", wide)


def test_the_schema_takes_the_fleet_and_refuses_a_mistake(shell: Shell, tiny: Path) -> None:
    import jsonschema

    check = jsonschema.Draft202012Validator(json.loads(shell("schema")))
    documents = list(yaml.safe_load_all(tiny.read_text()))
    assert [error.message for document in documents for error in check.iter_errors(document)] == []
    documents[0]["spec"]["memroy"] = documents[0]["spec"].pop("memory")
    assert list(check.iter_errors(documents[0]))


def test_version_and_completion(stand: Any) -> None:
    from edge_compress import __version__

    assert stand.cli("version").stdout == stand.cli("--version").stdout == f"edge-compress {__version__}\n"
    # Typer looks for a shell among our ancestors, of which a build system may have none.
    stand.environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    assert "_EDGE_COMPRESS_COMPLETE" in stand.cli("--show-completion", "bash").stdout


SCRIPT = """
import sys
from edge_compress import Client

with Client(sys.argv[1]) as client:
    applied = client.apply(sys.argv[2])
    names = [pair.job for pair in client.plan(sys.argv[2]).pairs]
    (job,) = client.wait_for_jobs(names, timeout=120)
    artifact = client.get("Artifact", job.status.artifact)
    client.download(artifact.spec.sha256, sys.argv[3])
    quality = client.report("digits")["profiles"]["cam"]["quality"]
    print([item.outcome for item in applied], job.status.state, artifact.spec.bytes, quality["metric"])
assert not {"torch", "onnx", "pluggy"} & set(sys.modules)
"""


def test_the_client_from_python(story: Any, tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, story.address, str(tiny), str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "model.onnx").stat().st_size
    assert done.stdout == f"{['unchanged'] * 4} Succeeded {size} top1\n"
