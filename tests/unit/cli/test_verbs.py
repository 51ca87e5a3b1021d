"""The verbs against a real server: what they print, in every form, and what they change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edge_compress.cli.kinds import KINDS, duration, kind_named
from edge_compress.cli.printing import print_items
from edge_compress.client import Client
from edge_compress.fleet_file import load_text
from tests.unit.cli.conftest import Command
from tests.unit.cli.digits_fleet import write_whole_fleet
from tests.unit.cli.server_process import ServerProcess

FLEET = """\
kind: DeviceProfile
metadata: {name: cam, labels: {site: plant-1}}
spec: {memory: 64Mi, storage: 1Mi, latency_p95: 200ms, link: {bandwidth: 1Mbit}}
---
kind: DeviceProfile
metadata: {name: hub, labels: {site: plant-2}}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return str(tmp_path / "fleet.yaml")


def test_apply_says_what_it_did(cli: Command, fleet: str) -> None:
    first = cli(["apply", "-f", fleet])
    assert first.code == 0
    assert first.out.splitlines() == ["profile/cam created", "profile/hub created"]
    assert cli(["apply", "-f", fleet]).out.splitlines() == ["profile/cam unchanged", "profile/hub unchanged"]
    Path(fleet).write_text(FLEET.replace("64Mi", "32Mi"))
    assert cli(["apply", "-f", fleet, "--dry-run"]).out.splitlines()[0] == "profile/cam configured (dry run)"
    assert cli(["apply", "-f", str(Path(fleet).parent)]).out.splitlines()[0] == "profile/cam configured"


def test_get_prints_tables_documents_and_names(cli: Command, fleet: str) -> None:
    cli(["apply", "-f", fleet])
    table = cli(["get", "profiles"]).out.splitlines()
    assert table[0].split()[:4] == ["NAME", "RUNTIME", "MEMORY", "STORAGE"]
    assert [line.split()[:4] for line in table[1:3]] == [["cam", "onnxruntime", "64Mi", "1Mi"], ["hub", "onnxruntime", "–", "–"]]
    assert "LABELS" not in table[0]
    wide = cli(["get", "prof", "-o", "wide"]).out.splitlines()
    assert wide[1].endswith("site=plant-1")
    assert "1Mbit" in wide[1]
    assert cli(["get", "deviceprofile", "-o", "name", "-l", "site=plant-2"]).out == "profile/hub\n"
    one = json.loads(cli(["get", "profile", "cam", "-o", "json"]).out)
    assert one == json.loads(cli(["get", "profile/cam", "-o", "json"]).out)
    assert (one["kind"], one["spec"]["memory"], one["metadata"]["labels"]) == ("DeviceProfile", "64Mi", {"site": "plant-1"})
    assert one["status"]["observedGeneration"] >= 1
    every = json.loads(cli(["get", "profiles", "-o", "json"]).out)
    assert [item["metadata"]["name"] for item in every["items"]] == ["cam", "hub"]


def test_what_get_prints_as_yaml_can_be_applied(cli: Command, fleet: str, tmp_path: Path) -> None:
    cli(["apply", "-f", fleet])
    text = cli(["get", "profiles", "-o", "yaml"]).out
    assert [item.resource.name for item in load_text(text)] == ["cam", "hub"]
    (tmp_path / "again.yaml").write_text(text)
    assert cli(["apply", "-f", str(tmp_path / "again.yaml")]).out.splitlines() == [
        "profile/cam unchanged",
        "profile/hub unchanged",
    ]


@pytest.mark.parametrize("kind", [kind.singular for kind in KINDS])
@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name"])
def test_every_kind_prints_in_every_form(cli: Command, kind: str, output: str) -> None:
    shown = cli(["get", f"{kind}s", "-o", output])
    assert shown.code == 0
    if output == "json":
        assert json.loads(shown.out)["kind"] == "List"
    elif output == "yaml":
        assert list(yaml.safe_load_all(shown.out)) is not None
    assert shown.err in ("", f"no {kind}s\n")


def test_kinds_have_plural_and_short_names() -> None:
    assert {kind_named(word).kind for word in ("device", "devices", "dev", "Device")} == {"Device"}
    assert kind_named("deploy") is kind_named("deployments")


def test_delete_removes_by_name_and_by_file(cli: Command, fleet: str) -> None:
    cli(["apply", "-f", fleet])
    assert cli(["describe", "profile", "profile/cam"]).code == 0
    assert cli(["delete", "profile/cam"]).out == "profile/cam deleted\n"
    again = cli(["delete", "profile", "cam"])
    assert (again.code, again.err) == (1, "error: DeviceProfile 'cam' does not exist\n")
    cli(["apply", "-f", fleet])
    assert cli(["delete", "-f", fleet]).out.splitlines() == ["profile/cam deleted", "profile/hub deleted"]
    assert cli(["get", "profiles", "-o", "name"]).out == ""


def test_describe_shows_declaration_and_conditions(cli: Command, fleet: str) -> None:
    cli(["apply", "-f", fleet])
    text = cli(["describe", "profile", "cam"]).out
    assert text.splitlines()[0].split() == ["Name:", "cam"]
    assert "  memory: 64Mi" in text
    assert "Conditions:" in text
    plugin = cli(["describe", "plugin", "quantize"]).out
    assert "strategy quantize.static" in plugin
    assert "PARAMETER" in plugin


def test_watch_follows_changes(cli: Command, server: ServerProcess, fleet: str) -> None:
    cli(["apply", "-f", fleet])
    command = [sys.executable, "-m", "edge_compress", "get", "profiles", "--watch", "-o", "json", "-l", "site=plant-1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        first = json.loads(process.stdout.readline())
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "cam")
        cli(["delete", "profile", "cam"])
        assert json.loads(process.stdout.readline())["type"] == "DELETED"
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_plugins_list_works_without_a_server(command: Command) -> None:
    assert "quantize.static" in command(["plugins", "list"]).out
    wide = command(["plugins", "list", "-o", "wide"]).out
    assert "bits: int" in wide
    offers = {plugin["name"]: plugin["offers"] for plugin in json.loads(command(["plugins", "list", "-o", "json"]).out)["items"]}
    assert "quantize.static" in [offer["name"] for offer in offers["quantize"]]


def test_plan_apply_wait_describe_the_infeasible(cli: Command, server: ServerProcess, tmp_path: Path) -> None:
    whole = write_whole_fleet(tmp_path)
    planned = cli(["plan", "-f", whole])
    assert planned.code == 0
    assert "model/digits would be created" in planned.out
    assert "refused: " in planned.out
    preview = json.loads(cli(["plan", "-f", whole, "-o", "json"]).out)
    assert preview["pairs"][0]["candidates"][0]["steps"] is not None
    assert cli(["get", "models", "-o", "name"]).out == ""
    applied = cli(["apply", "-f", whole, "--wait", "--wait-timeout", "4m"])
    assert (applied.code, applied.out.splitlines()[-1]) == (3, "deployment/digits created")
    assert "digits for tiny: Infeasible: " in applied.err
    job = cli(["get", "jobs", "-o", "name", "-l", "model=digits"]).out.strip()
    for text in (cli(["describe", "model", "digits"]).out, cli(["describe", job]).out):
        assert "Profile tiny: INFEASIBLE, bound by storage" in text
        assert "WHY" in text
    cancelled = cli(["cancel", job])
    assert cancelled.code == 1
    assert cancelled.err.count("\n") == 1
    refused = cli(["delete", "model", "digits"])
    assert (refused.code, "deployment/digits" in refused.err) == (1, True)


def test_an_absent_figure_is_a_dash_never_a_zero(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(server.address) as client:
        items = list(client.list("Artifact"))
    assert items, "the test above leaves the nearest artifact"
    for item in items:
        assert item.spec.expected.energy.joules is None
    print_items(kind_named("artifacts"), items, "wide", single=False)
    assert " 0 mJ" not in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.9, "59s"), (192, "3m12s"), (18_420, "5h7m"), (1_050_000, "12d3h")])
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text
