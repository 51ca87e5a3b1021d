"""Data larger than what a child process may use of memory: checking, calibrating, judging and training stream it.

The limits are the worker's own, so a child that held on to samples would be ended by them. ``EDGE_COMPRESS_STREAM_BYTES`` and
``EDGE_COMPRESS_STREAM_LIMIT`` (bytes) set another scale for a run by hand; the largest child's memory is printed.
"""

from __future__ import annotations

import os
import resource
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_compress.domain.spec import FileRef, Model, parse_resource
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Store
from edge_compress.store.state import open_state
from edge_compress.worker.engine import Engine, PairRequest, WorkerSettings
from edge_compress.worker.spawn import ChildLimits

SIDE = 160
SAMPLE_BYTES = 3 * SIDE * SIDE * 4
DATA_BYTES = int(os.environ.get("EDGE_COMPRESS_STREAM_BYTES", "0"))
LIMIT_BYTES = int(os.environ.get("EDGE_COMPRESS_STREAM_LIMIT", "0"))
QUIETLY, WITH_TORCH = 288 * 2**20, 960 * 2**20
"""what a child may use here: little more than its libraries, and that with torch"""
CALIBRATED: dict[str, Any] = {"strategy": "quantize.static", "params": {"calibration": "entropy", "samples": 2000}}
TRAINED: dict[str, Any] = {"strategy": "prune.structured", "params": {"ratio": 0.3, "schedule": {"epochs": 1.0}, "round_to": 1}}


def network() -> bytes:
    """Looks at every 16th pixel, so that reading the data is most of the work."""
    draw = np.random.default_rng(0)
    shapes = {"w": (16, 3, 4, 4), "v": (16, 16, 1, 1), "h": (16, 4)}
    weights = [numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[16, 16]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "h"], ["y"]),
    ]
    shapes_of = {"x": ["N", 3, SIDE, SIDE], "y": ["N", 4]}
    taken, given = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes_of[name])] for name in "xy")
    graph = helper.make_graph(nodes, "g", taken, given, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def write_samples(path: Path, total: int) -> None:
    """An .npz that is ``total`` bytes when read and little on the disk: a few pictures over and over."""
    rows = total // SAMPLE_BYTES
    block = np.zeros((16, 3, SIDE, SIDE), np.float32)
    block[:, :, ::16, ::16] = np.random.default_rng(1).standard_normal((16, 3, SIDE // 16, SIDE // 16))
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as entry,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 3, SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(entry, header)
        for start in range(0, rows, 16):
            entry.write(block[: min(16, rows - start)].tobytes())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_state(tmp_path / "state")
    yield opened
    opened.close()


def outcome_of(store: Store, tmp_path: Path, step: dict[str, Any], data_bytes: int, limit_bytes: int) -> Any:
    write_samples(tmp_path / "d.npz", data_bytes)
    spec = {"source": "m.onnx", "data": {"calibration": "d.npz"}, "quality": {"metric": "cosine", "max_drop": 0.9}}
    model = parse_resource({"kind": "Model", "metadata": {"name": "m"}, "spec": spec})
    assert isinstance(model, Model)
    refs = (FileRef("m.onnx", store.blobs.put_bytes(network())), FileRef("d.npz", store.blobs.put_file(tmp_path / "d.npz")))
    profile: Any = parse_resource({"kind": "DeviceProfile", "metadata": {"name": "p"}, "spec": {}})
    recipe: Any = parse_resource({"kind": "Recipe", "metadata": {"name": "r"}, "spec": {"steps": [step]}})
    limits = ChildLimits(seconds=1200 if DATA_BYTES else 200, memory_bytes=limit_bytes)
    settings = WorkerSettings(step=limits, check=limits, timing_seconds=0.05)
    engine = Engine(store=store, registry=Registry.load(), scratch=tmp_path / "scratch", settings=settings)
    try:
        model = replace(model, spec=replace(model.spec, files=refs))
        outcome = engine.run(PairRequest(model, profile, recipe)).outcome
    finally:
        engine.close()
    print(f"{data_bytes:,} bytes under {limit_bytes:,}: {outcome.seconds:.0f} s, the largest child had {largest_child():,}")
    return outcome


def largest_child() -> int:
    """Bytes of memory of the largest process that this one has waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


@pytest.mark.parametrize(("step", "limit"), [(CALIBRATED, QUIETLY), (TRAINED, WITH_TORCH)], ids=["calibrated", "trained"])
def test_more_data_than_memory(step: dict[str, Any], limit: int, store: Store, tmp_path: Path) -> None:
    limit = LIMIT_BYTES or limit
    outcome = outcome_of(store, tmp_path, step, DATA_BYTES or limit + 64 * 2**20, limit)
    assert outcome.verdict == "FEASIBLE", [item.why for item in outcome.candidates]
    assert outcome.chosen.measurement.quality.samples == (DATA_BYTES or limit + 64 * 2**20) // SAMPLE_BYTES
