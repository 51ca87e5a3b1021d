"""A stranger's plugin in an environment of its own: installed with pip, listed, used by a recipe, contained."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STRANGER = Path(__file__).parents[1] / "strangers" / "hostile"

RECIPES = """
kind: Recipe
metadata: {name: %(name)s}
spec: {steps: [{strategy: %(strategy)s}]}
---
kind: Deployment
metadata: {name: %(name)s}
spec: {model: digits, recipe: %(name)s, selector: {profiles: [hub]}}
---
"""


@pytest.fixture(scope="module")
def stranger_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter whose environment has the product, as it is installed here, and the stranger's package."""
    folder = tmp_path_factory.mktemp("env")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    ours = sysconfig.get_path("purelib")
    (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([*install, str(STRANGER)], check=True, env=environment)
    return str(python)


@pytest.fixture
def stand(make_stand: Callable[..., Any], stranger_python: str) -> Any:
    return make_stand(python=stranger_python)


def test_it_is_listed_and_a_plugin_that_cannot_be_imported_is_listed_with_its_error(stand: Any) -> None:
    stand.start_server()
    text = stand.cli("plugins", "list").stdout
    assert "stranger.round" in text
    assert "stranger.tenth" in text
    assert "unimportable" in text
    assert "this plugin leaves on import" in text


def test_strict_plugins_refuses_to_start_with_a_broken_one(stand: Any) -> None:
    done = stand.cli("server", "--listen", stand.address, "--state", str(stand.state), "--strict-plugins", code=1)
    assert "unimportable" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_its_strategy_is_used_by_a_recipe_and_misbehaviour_is_one_candidates_failure(
    stand: Any, fleet: Path, wait_for: Callable[..., Any]
) -> None:
    text = fleet.read_text().replace("metric: top1", "metric: stranger.tenth")
    head = text[: text.rindex("---")] + "---\n"
    names = {"round": "stranger.round", "crash": "hostile.crash", "eat": "hostile.eat", "garbage": "hostile.garbage"}
    fleet.write_text(head + "".join(RECIPES % {"name": name, "strategy": strategy} for name, strategy in names.items()))
    stand.start_server()
    stand.cli("apply", "-f", str(fleet))
    wait_for("all jobs end", stand.jobs_done, 180)
    states = {item["spec"]["recipe"]: item["status"]["state"] for item in stand.get("Job")}
    assert states.pop("round") == "Succeeded"
    assert set(states.values()) <= {"Infeasible", "Failed"}
    assert len(states) == 3
    assert "stranger.tenth" in stand.cli("describe", "model", "digits").stdout
    assert stand.server.poll() is None
    text = stand.metrics()
    assert 'strategy="hostile.crash"' in text
    assert 'outcome="crash"' in text
    assert 'outcome="memory"' in text
