"""The smallest real fleet: a linear classifier of scikit-learn's digits, its data, and what a refused command must look like."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from edge_compress import Client

FLEET = """\
kind: DeviceProfile
metadata: {name: cam, labels: {place: gate}}
spec:
  memory: 64Mi
  storage: 1Mi
  precisions: [fp32, int8]
  compute: {watts_per_core: 1W}
---
kind: Model
metadata: {name: digits}
spec:
  source: digits.onnx
  data:
    calibration: calib.npz
    evaluation: val.npz
    preprocess: {std: 16}
  quality: {metric: top1, max_drop: 0.05}
---
kind: Recipe
metadata: {name: tidy}
spec:
  steps:
    - {strategy: graph.optimize}
---
kind: Deployment
metadata: {name: digits}
spec:
  model: digits
  recipe: tidy
  objective: size
  selector: {profiles: [cam]}
"""
KINDS = ("DeviceProfile", "Model", "Recipe", "Deployment", "Job", "Artifact", "Device", "Rollout")
_PROGRESS = re.compile(r"^\S+: +\d+% ")


def write_fleet(folder: Path) -> Path:
    """Write model, data and fleet file into ``folder``; returns the fleet file."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8).astype(np.uint8)
    write_model(folder / "digits.onnx", x, y)
    np.savez_compressed(folder / "calib.npz", x=images[:200])
    np.savez_compressed(folder / "val.npz", x=images[1200:], y=y[1200:])
    (folder / "fleet.yaml").write_text(FLEET)
    return folder / "fleet.yaml"


def write_model(path: Path, x: Any, y: Any) -> None:
    """About nine in ten digits right (Alpaydin and Kaynak 1998), solved by least squares on the first 1,200 images."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    features = np.concatenate([x / 16, np.ones((len(x), 1))], axis=1)
    solved = np.linalg.lstsq(features[:1200], np.eye(10)[y[:1200]], rcond=None)[0].astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["scores"]),
    ]
    taken = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 8])]
    given = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])]
    weights = [numpy_helper.from_array(solved[:-1], "weight"), numpy_helper.from_array(solved[-1], "bias")]
    graph = helper.make_graph(nodes, "digits", taken, given, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def said(stderr: str) -> list[str]:
    """What a command wrote on stderr besides its progress."""
    return [line for line in stderr.splitlines() if not _PROGRESS.match(line)]


def refused(stand: Any, *arguments: str, code: int = 1) -> str:
    """Run a verb that must be refused; what it says, which is one line."""
    done = stand.cli(*arguments, code=code)
    lines = said(done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: "), lines
    assert done.stdout == ""
    return lines[0].removeprefix("error: ")


def inventory(stand: Any) -> set[tuple[str, str, int]]:
    """Everything stored: (kind, name, generation). Asking also shows that the server still serves."""
    with Client(stand.address) as client:
        return {(kind, item.name, item.metadata.generation) for kind in KINDS for item in client.list(kind)}


def half_written(state: Path) -> list[Path]:
    """Uploads that are not finished and files that were being written, in a server's or a one-shot's state folder."""
    return [path for name in ("partial", "tmp", "corrupt") for path in (state / "blobs" / name).iterdir()]
