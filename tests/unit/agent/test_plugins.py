"""Plugins that offer something to a device are found, and no other one is loaded."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points as installed
from pathlib import Path

import pytest

from edge_compress.agent import plugins
from edge_compress.agent.meters import HOOK


def install(root: Path, name: str, source: str, target: str = "") -> None:
    folder = root / f"{name}-1.0.dist-info"
    folder.mkdir()
    text = f"[console_scripts]\n{name} = {name}:main\n\n[edge_compress]\n# ours\n{name} = {target or name}\n"
    (folder / "entry_points.txt").write_text(text)
    module = root.joinpath(*(target or name).partition(":")[0].split("."))
    module.parent.mkdir(parents=True, exist_ok=True)
    module.with_suffix(".py").write_text(source)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("acme")]:
        del sys.modules[name]


METER = f"from edge_compress.plugin import hookimpl\n@hookimpl\ndef {HOOK}():\n    return ['a meter']\n"


def test_it_reads_the_entry_points_that_the_standard_library_reads() -> None:
    assert plugins.entry_points(sys.path) == {item.name: item.value for item in installed(group=plugins.GROUP)}


def test_only_plugins_that_name_the_hook_are_loaded(path: Path) -> None:
    install(path, "acme_meter", METER)
    install(path, "acme_heavy", "raise SystemExit('torch')")
    install(path, "acme_deep", METER.replace("a meter", "a deep one"), "acme_deeper.inner")
    (path / "acme_deeper/__init__.py").write_text("")
    assert plugins.offered(HOOK, [str(path)]) == ["a deep one", "a meter"]
    assert "acme_heavy" not in sys.modules


def test_an_object_may_be_the_plugin(path: Path) -> None:
    source = METER.replace("\n@", "\nclass Plugin:\n    @").replace("\ndef ", "\n    def ").replace("():", "(self):")
    install(path, "acme_object", source.replace("    return", "        return") + "plugin = Plugin()\n", "acme_object:plugin")
    assert plugins.offered(HOOK, [str(path)]) == ["a meter"]


def test_a_broken_plugin_is_told_and_the_others_serve(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    install(path, "acme_broken", f"# {HOOK}\n1 / 0\n")
    install(path, "acme_unmarked", f"def {HOOK}():\n    return ['no mark']\n")
    install(path, "acme_meter", METER)
    assert plugins.offered(HOOK, [str(path)]) == ["a meter"]
    assert caplog.messages == ["plugin acme_broken: ZeroDivisionError: division by zero"]


def test_the_products_own_meters_come_this_way() -> None:
    names = [meter.name for meter in plugins.offered(HOOK)]
    assert names == ["rapl", "ina", "hwmon", "battery", "nvml", "external", "estimate"]
