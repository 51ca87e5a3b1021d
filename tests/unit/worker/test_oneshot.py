"""A run without a server: its budget, and what its measurements depend on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_compress.domain.allotment import Allotment
from edge_compress.domain.spec import DeviceProfile, FileRef, Model, Recipe, parse_resource
from edge_compress.store.interface import Store
from edge_compress.worker.budget import Budget, Clock
from edge_compress.worker.engine import Engine, PairRequest


def test_pairs_of_one_model_share_its_budget(
    make_engine: Callable[..., Engine], digits: Model, make_profile: Callable[..., DeviceProfile]
) -> None:
    over = time.monotonic() - 1
    spent = Budget(Clock(over, over), Allotment(1.0, ()))
    request = PairRequest(digits, make_profile("late", precisions=["fp32"]), None, "size", seed=11)
    result = make_engine().run(request, budget=spent)
    assert result.artifact is not None, "the best so far"
    assert any(item.why == "the time budget ended before its turn" for item in result.outcome.candidates)


def test_where_samples_may_be_longer_other_samples_are_measured_anew(
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
    store: Store,
    tmp_path: Path,
) -> None:
    engine, recipe = make_engine(), make_recipe("graph.optimize")
    short, long = (_any_length(store, tmp_path, length) for length in (4, 4096))
    figures = [engine.run(PairRequest(model, make_profile(), recipe)).outcome.float_baseline for model in (short, long)]
    assert figures[0].sha256 == figures[1].sha256
    assert figures[0].latency != figures[1].latency
    assert engine.key(PairRequest(short, make_profile(), recipe)) != engine.key(PairRequest(long, make_profile(), recipe))


def _any_length(store: Store, folder: Path, length: int) -> Model:
    """A small network over sequences, with samples of one length: sums of the steps' features."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.linspace(-1, 1, 8 * 3, dtype=np.float32).reshape(8, 3)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["each"]), helper.make_node("ReduceSum", ["each", "axis"], ["y"], keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(network)
    steps = np.arange(8 * length * 8, dtype=np.float32).reshape(8, length, 8) % 7
    np.savez(folder / f"{length}.npz", x=steps)
    spec = {"source": "sums.onnx", "data": {"evaluation": "e.npz"}, "quality": {"metric": "cosine"}}
    model = parse_resource({"kind": "Model", "metadata": {"name": "sums"}, "spec": spec})
    assert isinstance(model, Model)
    data = store.blobs.put_file(folder / f"{length}.npz")
    refs = (FileRef("sums.onnx", store.blobs.put_bytes(network.SerializeToString())), FileRef("e.npz", data))
    return replace(model, spec=replace(model.spec, files=refs))
