"""A small real model with real data, and an engine over a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_compress.domain.spec import DeviceProfile, FileRef, Model, Recipe, parse_resource
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Store
from edge_compress.store.state import open_state
from edge_compress.worker.engine import Engine, WorkerSettings
from edge_compress.worker.spawn import ChildLimits


def small_network() -> bytes:
    """A linear classifier of scikit-learn's 8x8 digits (Alpaydin and Kaynak 1998), solved by least squares: about 90% right."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    features = np.concatenate([x / 16, np.ones((len(x), 1))], axis=1)
    solved = np.linalg.lstsq(features[:1200], np.eye(10)[y[:1200]], rcond=None)[0]
    weight, bias = solved[:-1].astype(np.float32), solved[-1].astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["scores"]),
        ],
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for a module, so that what its tests share (the original's figures) is computed once."""
    opened = open_state(tmp_path_factory.mktemp("engine") / "state")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def digits(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The small network as an uploaded Model with labelled data."""
    from sklearn.datasets import load_digits

    tmp_path = tmp_path_factory.mktemp("digits")
    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8).astype(np.uint8)
    np.savez_compressed(tmp_path / "calib.npz", x=images[:200])
    np.savez_compressed(tmp_path / "val.npz", x=images[1200:], y=y[1200:])
    (tmp_path / "digits.onnx").write_bytes(small_network())
    spec = {
        "source": "digits.onnx",
        "data": {"calibration": "calib.npz", "evaluation": "val.npz", "preprocess": {"std": 16}},
    }
    model = parse_resource({"kind": "Model", "metadata": {"name": "digits"}, "spec": spec})
    assert isinstance(model, Model)
    files = ("digits.onnx", "calib.npz", "val.npz")
    refs = tuple(FileRef(name, store.blobs.put_file(tmp_path / name), (tmp_path / name).stat().st_size) for name in files)
    return replace(model, spec=replace(model.spec, files=refs))


@pytest.fixture
def make_engine(store: Store, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Engines over the store; short limits unless told otherwise."""
    made: list[Engine] = []

    def make(**changes: Any) -> Engine:
        limits = ChildLimits(seconds=changes.pop("seconds", 60), memory_bytes=changes.pop("memory_bytes", 2 * 2**30))
        settings = WorkerSettings(step=limits, timing_seconds=0.1)
        scratch = tmp_path / f"scratch{len(made)}"
        made.append(Engine(store=store, registry=Registry.load(), scratch=scratch, settings=settings, **changes))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def profile(name: str = "cam", **spec: Any) -> DeviceProfile:
    """A profile by YAML-like fields."""
    made = parse_resource({"kind": "DeviceProfile", "metadata": {"name": name}, "spec": spec})
    assert isinstance(made, DeviceProfile)
    return made


def recipe(*steps: str, **params: Any) -> Recipe:
    """A recipe of strategies; ``params`` go to the last one."""
    plain = [{"strategy": name} for name in steps[:-1]] + [{"strategy": steps[-1], "params": params}]
    made = parse_resource({"kind": "Recipe", "metadata": {"name": "r"}, "spec": {"steps": plain}})
    assert isinstance(made, Recipe)
    return made


@pytest.fixture
def make_profile() -> Callable[..., DeviceProfile]:
    return profile


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    return recipe
