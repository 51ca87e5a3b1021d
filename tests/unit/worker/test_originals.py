"""Models that come as .pt2 archives: where allowed they are lifted once, and whatever is wrong is about ``spec.source``."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_compress.domain.spec import FileRef, Model, parse_resource
from edge_compress.errors import InvalidModel
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Store
from edge_compress.worker.engine import Engine, WorkerSettings
from edge_compress.worker.oneshot import compress_fleet
from edge_compress.worker.spawn import ChildLimits
from tests.unit.graph.archives import bomb, changed, save_linear

FLEET: list[dict[str, Any]] = [
    {"kind": "DeviceProfile", "metadata": {"name": "cam"}, "spec": {"precisions": ["fp32"]}},
    {"kind": "Recipe", "metadata": {"name": "tidy"}, "spec": {"steps": [{"strategy": "graph.optimize"}]}},
    {"kind": "Deployment", "metadata": {"name": "linear"}, "spec": {"model": "linear", "recipe": "tidy"}},
]
SPEC = {"source": "linear.pt2", "data": {"evaluation": "e.npz"}}


def test_compress_takes_an_archive_and_opens_none_of_its_pickles(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = changed(save_linear(tmp_path / "plain.pt2"), tmp_path / "linear.pt2", {"sample_inputs/model.pt": bomb(mark)})
    samples = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    np.savez(tmp_path / "e.npz", input=samples)
    resources = [parse_resource(item) for item in (*FLEET, {"kind": "Model", "metadata": {"name": "linear"}, "spec": SPEC})]
    entry = compress_fleet(resources, root=tmp_path, out=tmp_path / "out")["models"]["linear"]
    assert entry["float"]["bytes"] == source.stat().st_size, "the size of the file that the user gave"
    made = entry["profiles"]["cam"]
    assert made["verdict"] == "FEASIBLE"
    assert made["quality"]["value"] == 1.0
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / made["artifact"]), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["input"]
    assert np.asarray(session.run(None, {"input": samples})[0]).shape == (20, 3)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (WorkerSettings(), "start the server with --allow-pt2"),
        (WorkerSettings(allow_pt2=True, step=ChildLimits(seconds=0.2)), "could not be turned into ONNX: stopped after 0.2 s"),
        (WorkerSettings(allow_pt2=True, step=ChildLimits(memory_bytes=32 * 2**20)), "could not be turned into ONNX"),
    ],
)
def test_what_cannot_be_lifted_is_said_of_the_source(store: Store, tmp_path: Path, settings: WorkerSettings, said: str) -> None:
    engine = Engine(store=store, registry=Registry.load(), scratch=tmp_path / "scratch", settings=settings)
    with pytest.raises(InvalidModel) as caught:
        engine.check_data(_linear(store, tmp_path))
    assert said in str(caught.value)
    assert str(caught.value).startswith("spec.source: linear.pt2: ")
    assert caught.value.violations[0].field == "spec.source"


def test_behind_the_reader_stands_a_wall(tmp_path: Path) -> None:
    """In a process of its own, since a wall cannot be taken down."""
    inside, outside = tmp_path / "scratch", tmp_path / "outside"
    inside.mkdir()
    attempts = {
        "pickle": f"import pickle; pickle.loads({bomb(outside)!r})",
        "process": "import subprocess; subprocess.run(['true'])",
        "shell": "import os; os.system('true')",
        "fork": "import os; os.fork()",
        "network": "import socket; socket.create_connection(('127.0.0.1', 9))",
        "writing": f"open({str(outside)!r}, 'w')",
        "linking": f"import os; os.symlink('/etc/hosts', {str(inside / 'hosts')!r}); open({str(inside / 'hosts')!r}, 'a')",
        "removing": f"import os; os.remove({str(tmp_path / 'kept')!r})",
        "own file": f"open({str(inside / 'model.onnx')!r}, 'w').close()",
    }
    (tmp_path / "kept").touch()
    said = _said(attempts, inside)
    assert {name: text.split(" may not")[0] for name, text in said.items()} == {
        **dict.fromkeys(attempts, "PermissionError: a lift"),
        "own file": "",
    }
    assert (tmp_path / "kept").exists()
    assert not outside.exists()


def _said(attempts: dict[str, str], inside: Path) -> dict[str, str]:
    """The error of each piece of code behind a wall around the folder ``inside``; empty: none."""
    program = (
        "import json, os, pathlib, pickle, socket, subprocess, sys\nfrom edge_compress.worker.lifting import wall\n"
        "folder, attempts = json.loads(sys.argv[1])\nsys.dont_write_bytecode = True\n"
        "sys.addaudithook(wall(pathlib.Path(folder)))\n"
        "def said(code):\n    try:\n        exec(code)\n    except BaseException as error:\n"
        "        return f'{type(error).__name__}: {error}'\n    return ''\n"
        "print(json.dumps({name: said(code) for name, code in attempts.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([str(inside), attempts])], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _linear(store: Store, folder: Path) -> Model:
    save_linear(folder / "linear.pt2")
    np.savez(folder / "e.npz", input=np.ones((2, 4), np.float32))
    model = parse_resource({"kind": "Model", "metadata": {"name": "linear"}, "spec": SPEC})
    assert isinstance(model, Model)
    refs = tuple(FileRef(name, store.blobs.put_file(folder / name)) for name in ("linear.pt2", "e.npz"))
    return replace(model, spec=replace(model.spec, files=refs))
