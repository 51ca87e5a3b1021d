"""Models whose answers are not all finite numbers, and models that are slow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_compress.domain.spec import DeviceProfile, FileRef, Model, Recipe, parse_resource
from edge_compress.errors import StepFailed
from edge_compress.plugin.strategy import Limits
from edge_compress.store.interface import Store
from edge_compress.worker.engine import Engine, PairRequest
from edge_compress.worker.frame import Frame, Reporter
from edge_compress.worker.inputs import model_digest, source
from edge_compress.worker.measure import latency


@pytest.fixture
def logarithms(store: Store, tmp_path: Path) -> Callable[[float], Model]:
    """A model that answers log(x + shift) for samples of 0, 1 and 2."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def make(shift: float) -> Model:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
        nodes = [helper.make_node("Add", ["x", "shift"], ["moved"]), helper.make_node("Log", ["moved"], ["y"])]
        weights = [numpy_helper.from_array(np.full((3,), shift, np.float32), "shift")]
        graph = helper.make_graph(nodes, "logs", values[:1], values[1:], weights)
        network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(network)
        np.savez(tmp_path / "e.npz", x=np.array([[0, 1, 2], [2, 1, 0], [1, 1, 2]] * 3, np.float32))
        spec = {"source": "logs.onnx", "data": {"evaluation": "e.npz"}, "quality": {"metric": "agreement"}}
        model = parse_resource({"kind": "Model", "metadata": {"name": "logs"}, "spec": spec})
        assert isinstance(model, Model)
        data = store.blobs.put_file(tmp_path / "e.npz")
        refs = (FileRef("logs.onnx", store.blobs.put_bytes(network.SerializeToString())), FileRef("e.npz", data))
        return replace(model, spec=replace(model.spec, files=refs))

    return make


def test_minus_infinity_is_an_answer(
    logarithms: Callable[[float], Model],
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    result = make_engine().run(PairRequest(logarithms(0.0), make_profile(), make_recipe("graph.optimize")))
    assert result.artifact is not None
    assert result.artifact.golden.atol == pytest.approx(np.log(2) * result.artifact.golden.rtol)


def test_not_a_number_is_none_even_where_the_metric_would_take_it(
    logarithms: Callable[[float], Model],
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    with pytest.raises(StepFailed, match="computes NaN"):
        make_engine().run(PairRequest(logarithms(-1.0), make_profile(), make_recipe("graph.optimize")))


@pytest.mark.parametrize(("limit", "rounds"), [(0.0, 3), (600.0, 15)])
def test_a_time_limit_that_is_near_costs_rounds_and_not_the_measurement(
    limit: float, rounds: int, digits: Model, make_engine: Callable[..., Engine], store: Store, tmp_path: Path
) -> None:
    facts = make_engine().facts(model_digest(digits))
    artifact = {"id": "float", "target": "onnxruntime", "path": str(store.blobs.path(facts.sha256))}
    samples = source(digits, "evaluation", facts, store.blobs)
    arguments = {"plugins": ["onnxruntime"], "artifacts": [artifact], "threads": 1, "seconds": 0.0, "samples": samples}
    said = tmp_path / "said"
    handle = os.open(said, os.O_CREAT | os.O_WRONLY)
    found = latency(arguments, Frame(tmp_path, Reporter(handle), Limits(limit, 2**30, 1)))
    os.close(handle)
    assert len(said.read_text().splitlines()) == rounds
    assert found["float"]["p95"] >= found["float"]["p50"] > 0
