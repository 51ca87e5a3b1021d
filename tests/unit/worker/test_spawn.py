"""Child processes: whose code they run, and what becomes of one that destroys its own folder."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_compress.domain.spec import DeviceProfile, Model, Recipe
from edge_compress.errors import InvalidModel
from edge_compress.worker.engine import Engine, PairRequest
from edge_compress.worker.spawn import ChildLimits, run_child

ERASER = '''
import os, shutil
from dataclasses import dataclass
from edge_compress.plugin import Strategy, hookimpl


@dataclass(frozen=True)
class NoParams:
    """Nothing to choose."""


class Erase(Strategy[NoParams]):
    """Tidies up what is not its own."""

    name = "eraser.erase"
    stage = "sparsity"
    Params = NoParams

    def apply(self, model, params, context):
        shutil.rmtree(context.scratch.parent)
        os._exit(0)


@hookimpl
def edge_compress_register_strategies():
    return [Erase()]
'''


@pytest.fixture
def eraser_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the plugin above findable here and in child processes, as an installed distribution would be."""
    info = tmp_path / "site" / "edge_compress_eraser-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edge-compress-eraser\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edge_compress]\neraser = edge_compress_eraser\n")
    (info.parent / "edge_compress_eraser.py").write_text(ERASER)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(info.parent), before])))
    monkeypatch.syspath_prepend(info.parent)


def test_a_child_runs_no_code_from_the_folder_we_were_started_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    (downloaded / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise SystemExit(0)\n")
    (downloaded / "model.onnx").write_bytes(b"not a model")
    monkeypatch.chdir(downloaded)
    arguments = {"path": str(downloaded / "model.onnx"), "max_bytes": 1000}
    with pytest.raises(InvalidModel):
        run_child("facts", arguments, scratch_root=tmp_path, limits=ChildLimits(), cores=frozenset(os.sched_getaffinity(0)))
    assert not (tmp_path / "ran").exists()


def test_a_step_that_removes_its_own_folder_is_a_failed_candidate(
    eraser_plugin: None,
    make_engine: Callable[..., Engine],
    digits: Model,
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    result = make_engine().run(PairRequest(digits, make_profile(), make_recipe("eraser.erase")))
    assert [item.state for item in result.outcome.candidates] == ["failed"]
    assert result.outcome.candidates[0].why.startswith("crash: its process or its files were lost")


def test_a_server_with_thousands_of_connections_can_follow_a_child(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1400
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this machine allows {hard} open files, of which the test needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        arguments = {"path": str(tmp_path / "model.onnx"), "max_bytes": 1000}
        with pytest.raises(InvalidModel):
            run_child("facts", arguments, scratch_root=tmp_path, limits=ChildLimits(), cores=frozenset(os.sched_getaffinity(0)))
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
