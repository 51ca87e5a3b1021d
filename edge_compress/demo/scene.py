"""Lays out the demo's folder: the fleet file, the trained model and the data it names."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from edge_compress.demo import data

MODEL = "digits"


def set_up(folder: Path) -> Path:
    """Write the scene into ``folder``; returns the fleet file. Raises Unsupported when the images are not installed."""
    folder.mkdir(parents=True, exist_ok=True)
    source = importlib.resources.files(__package__)
    for name in ("fleet.yaml", f"{MODEL}.onnx"):
        (folder / name).write_bytes(source.joinpath(name).read_bytes())
    data.write(data.load(), folder)
    return folder / "fleet.yaml"
