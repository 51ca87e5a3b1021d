"""A fleet of one tiny device and one really trained network, whose goal cannot be met."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parents[3] / "edge_compress/demo/digits.onnx"


def write_whole_fleet(folder: Path) -> str:
    """The demo's trained network with a few samples of the right shape."""
    (folder / "digits.onnx").write_bytes(DIGITS.read_bytes())
    images = np.random.default_rng(1).integers(0, 255, size=(40, 28, 28, 1), dtype=np.uint8)
    np.savez(folder / "calib.npz", x=images)
    np.savez(folder / "val.npz", x=images, y=np.arange(40) % 10)
    (folder / "fleet.yaml").write_text(
        """\
kind: DeviceProfile
metadata: {name: tiny}
spec: {storage: 4Ki, precisions: [fp32, int8]}
---
kind: Model
metadata: {name: digits}
spec:
  source: digits.onnx
  data: {calibration: calib.npz, evaluation: val.npz, preprocess: {layout: NHWC, mean: 127, std: 128}}
---
kind: Deployment
metadata: {name: digits}
spec: {model: digits, objective: size, selector: {profiles: [tiny]}}
"""
    )
    return str(folder / "fleet.yaml")
