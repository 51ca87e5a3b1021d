"""What is documented is run or compared: commands, flags, files, YAML, metrics, exit codes, the plugin, the map."""

import ast
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path

import click
import numpy as np
import pytest
import typer
import yaml

import edge_compress
from edge_compress import metrics
from edge_compress.cli import app as command_line
from edge_compress.client import Client
from edge_compress.config import DEFAULT_SERVER, ServerSettings
from edge_compress.domain.spec import parse_resource
from edge_compress.errors import Infeasible, InvalidSpec, StartupError
from edge_compress.plugin.registry import GROUP, Registry

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAP = (ROOT / "edge_compress" / "README.md").read_text(encoding="utf-8")
DEPLOY = sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file())
SERVICES = [path for path in DEPLOY if path.relative_to(ROOT).parts[1] not in ("prometheus", "grafana", "README.md")]
"""the files that start a server or an agent"""


def blocks(language, text=README):
    """What stands in each fence of a language; fences are read in pairs, so that no prose between two is taken for one."""
    return [body for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M) if name == language]


def documented_commands():
    """Every ``edge-compress …`` line of a README block, and every one that the deployment files run or alerts advise."""
    lines = [line for block in blocks("") for line in block.splitlines()]
    lines += [found for path in DEPLOY for found in re.findall(r"(?:ExecStart=|runbook: )(.+)", path.read_text(encoding="utf-8"))]
    words = [shlex.split(line, comments=True) for line in lines]
    return [[Path(found[0]).name, *found[1:]] for found in words if found and Path(found[0]).name == "edge-compress"]


def command_named(words):
    """The click command that ``words`` (after the program's name) reach, and the words that are left."""
    command = typer.main.get_command(command_line.app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_documented_commands_and_flags_exist(words):
    command, rest = command_named(words[1:])
    options = {option for parameter in command.params for option in parameter.opts}
    flags = [word.partition("=")[0] for word in rest if word.startswith("-")]
    assert [flag for flag in flags if flag not in options] == []


def test_the_story_has_six_commands():
    assert len([words for words in documented_commands() if words[0] == "edge-compress"]) >= 6
    assert len(blocks("")[1].strip().splitlines()) == 6


def test_other_verbs_named_in_prose_exist():
    named = re.search(r"Also (.*?); each has `--help`", README, re.S)[1]
    for verb in re.findall(r"`([a-z ]+)`", named):
        command_named(verb.split())


def test_every_verb_is_documented():
    verbs = typer.main.get_command(command_line.app).commands
    said = {words[1] for words in documented_commands()} | set(re.findall(r"`([a-z]+)[ `]", README))
    assert set(verbs) - said == {"version"}


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"make ([a-z]+(?:-[a-z]+)*)", README + MAP)
    assert {"demo", "test", "check"} <= set(targets)
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.M)] == []


def test_yaml_examples_are_valid_resources():
    (example,) = blocks("yaml")
    kinds = [type(parse_resource(document)).__name__ for document in yaml.safe_load_all(example)]
    assert kinds == ["DeviceProfile", "Model", "Deployment"]


def test_metrics_table_equals_what_the_server_has():
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| ([a-z_, ]*) \|", README, re.M)
    documented = {name: tuple(filter(None, labels.strip().split(", "))) for name, labels in rows}
    assert documented == {name: labels for name, (_, labels, _) in (metrics.SERIES | metrics.DEVICE_SERIES).items()}
    assert metrics.PREFIX in README


def test_addresses_are_the_defaults():
    assert DEFAULT_SERVER in README
    assert f"http://{ServerSettings().metrics_listen}/metrics" in README


def test_exit_codes_are_those_of_the_command_line():
    assert "Exit codes: 0 done; 1 failed; 2 usage; 3 infeasible" in README
    assert command_line.explained(StartupError("no port"))[1] == 1
    assert command_line.explained(InvalidSpec.at("--budget", "x", "a duration"))[1] == 2
    assert command_line.explained(Infeasible("storage"))[1] == 3


def test_links_lead_somewhere():
    for document in (ROOT / "README.md", ROOT / "edge_compress" / "README.md", ROOT / "deploy" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), target


def test_the_client_has_what_the_example_calls():
    source = next(block for block in blocks("python") if "Client" in block)
    called = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "client"
    }
    assert called == {"apply", "list"}
    assert all(callable(getattr(Client, name)) for name in called)
    assert edge_compress.Client is Client


@pytest.fixture
def plugin():
    source = next(block for block in blocks("python") if "hookimpl" in block)
    module = types.ModuleType("acme")
    sys.modules["acme"] = module  # dataclasses look their module up
    exec(compile(source, "README.md", "exec"), module.__dict__)
    yield module
    del sys.modules["acme"]


def test_the_plugin_registers_and_works(plugin):
    import onnx
    import onnxruntime

    registry = Registry()
    assert registry.register(plugin, name="acme").strategies == ("acme.round",)
    strategy = registry.strategy("acme.round")
    model = onnx.load(ROOT / "edge_compress" / "demo" / "digits.onnx")
    image = np.random.default_rng(0).standard_normal((1, 1, 28, 28), np.float32)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})[0]
    changed = strategy.apply(model, strategy.Params(digits=3), None)
    after = onnxruntime.InferenceSession(changed.SerializeToString()).run(None, {"image": image})[0]
    assert 0 < np.abs(after - before).max() < 0.2


def test_the_plugin_is_a_dozen_lines(plugin):
    source = next(block for block in blocks("python") if "hookimpl" in block)
    code = [
        line for line in source.splitlines() if line.strip() and not line.startswith(("from ", "import ")) and '"""' not in line
    ]
    assert len(code) <= 12


def test_the_plugin_is_found_through_the_entry_point_group():
    (table,) = blocks("toml")
    assert tomllib.loads(table) == {"project": {"entry-points": {GROUP: {"acme": "acme"}}}}


def test_the_map_shows_every_room():
    package = ROOT / "edge_compress"
    rooms = {path.name for path in package.iterdir() if path.suffix == ".py" and not path.stem.startswith("__")}
    rooms |= {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name not in ("api", "__pycache__")}
    table = MAP.partition("## Rooms")[2].partition("## Who")[0]
    assert {room for room in rooms if f"`{room}`" not in table} == set()


def test_the_map_names_nothing_that_is_gone():
    for named in re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", MAP):
        assert (ROOT / "edge_compress" / named).exists() or (ROOT / named).exists(), named


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_deployment_files_use_real_settings(path):
    from edge_compress.config import AgentSettings
    from edge_compress.domain.schema import fields_of

    known = {item.meta.get("env") for settings in (ServerSettings, AgentSettings) for item in fields_of(settings)}
    used = set(re.findall(r"EDGE_COMPRESS_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert used - known == set()
    assert used
