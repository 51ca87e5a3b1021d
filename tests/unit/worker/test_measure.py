"""Models whose answers are not all finite numbers, and models that are slow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_compress.domain.spec import DeviceProfile, FileRef, Model, Recipe, parse_resource
from edge_compress.plugin.registry import Registry
from edge_compress.plugin.strategy import Limits
from edge_compress.store.interface import Store
from edge_compress.worker.engine import Engine, PairRequest
from edge_compress.worker.frame import Frame, Reporter
from edge_compress.worker.inputs import model_digest, source
from edge_compress.worker.measure import latency, out_of_reach, quality


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
    outcome = make_engine().run(PairRequest(logarithms(-1.0), make_profile(), make_recipe("graph.optimize"))).outcome
    assert (outcome.verdict, outcome.binding_constraint) == ("INFEASIBLE", "runtime")
    assert "computes NaN" in str(outcome.gap)


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


def detector(store: Store, folder: Path, *extra: str) -> Model:
    """Scores that pruning leaves alone, and boxes that it wipes out: their small weights are the first to go. ``extra``: ops of
    further outputs made of the scores."""
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    weights = {"w": draw.choice([-1.0, 1.0], (8, 6)), "b": 0.01 * draw.choice([-1.0, 1.0], (8, 4))}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"]), helper.make_node("MatMul", ["x", "b"], ["boxes"])]
    given = [helper.make_tensor_value_info(*item) for item in (("scores", 1, ["N", 6]), ("boxes", 1, ["N", 4]))]
    for op in extra:
        kind = TensorProto.INT64 if op == "NonZero" else TensorProto.FLOAT
        nodes.append(helper.make_node(op, ["scores"], [op], **({"keepdims": 0} if op != "NonZero" else {})))
        given.append(helper.make_tensor_value_info(op, kind, [2, "found"] if op == "NonZero" else []))
    taken = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])]
    held = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "detector", taken, given, held)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    np.savez(folder / "e.npz", x=draw.standard_normal((32, 8)).astype(np.float32), y=np.zeros(32, np.int64))
    spec = {"source": "d.onnx", "data": {"evaluation": "e.npz"}, "quality": {"metric": "top1", "max_drop": 1.0}}
    model = parse_resource({"kind": "Model", "metadata": {"name": "detector"}, "spec": spec})
    assert isinstance(model, Model)
    network_ref = FileRef("d.onnx", store.blobs.put_bytes(network.SerializeToString()))
    return replace(model, spec=replace(model.spec, files=(network_ref, FileRef("e.npz", store.blobs.put_file(folder / "e.npz")))))


def test_a_candidate_whose_second_output_is_noise_does_not_count(
    store: Store,
    tmp_path: Path,
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    model = detector(store, tmp_path)
    recipe = make_recipe("prune.magnitude", threshold=0.1)
    result = make_engine().run(PairRequest(model, make_profile(), recipe))
    assert result.artifact is None
    assert "output 1 does not follow the original's" in result.outcome.candidates[0].why


def test_outputs_without_a_row_for_each_sample_are_no_part_of_golden_vectors(
    store: Store,
    tmp_path: Path,
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    model = detector(store, tmp_path, "ReduceMean", "NonZero")
    result = make_engine().run(PairRequest(model, make_profile(), make_recipe("graph.optimize")))
    assert result.artifact is not None
    golden = np.load(store.blobs.path(result.artifact.golden.sha256))
    assert sorted(golden.files) == ["in/x", "out/boxes", "out/scores"]


def test_a_model_that_the_runtime_does_not_know_is_infeasible_with_the_reason(
    store: Store,
    tmp_path: Path,
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    import onnx

    model = detector(store, tmp_path)
    network = onnx.load(store.blobs.path(model_digest(model)))
    network.graph.node[0].op_type, network.graph.node[0].domain = "Frob", "com.acme"
    network.opset_import.append(onnx.helper.make_opsetid("com.acme", 1))
    files = (FileRef("d.onnx", store.blobs.put_bytes(network.SerializeToString())), model.spec.files[1])
    unknown = replace(model, spec=replace(model.spec, files=files))
    outcome = make_engine().run(PairRequest(unknown, make_profile(), make_recipe("graph.optimize"))).outcome
    assert (outcome.verdict, outcome.binding_constraint) == ("INFEASIBLE", "runtime")
    assert outcome.gap is not None
    assert "onnxruntime does not run the original" in outcome.gap
    assert "com.acme:Frob" in outcome.gap


def test_a_candidate_that_has_clearly_lost_is_not_measured_to_the_end(
    digits: Model, make_engine: Callable[..., Engine], store: Store, tmp_path: Path
) -> None:
    facts = make_engine().facts(model_digest(digits))
    path = str(store.blobs.path(facts.sha256))
    arguments = {
        "plugins": ["metrics", "onnxruntime"],
        "target": "onnxruntime",
        "metric": "top1",
        "artifact": path,
        "reference": path,
        "companions": False,
        "samples": source(digits, "evaluation", facts, store.blobs),
        "batch_size": 64,
        "count": 597,
    }
    handle = os.open(tmp_path / "said", os.O_CREAT | os.O_WRONLY)
    frame = Frame(tmp_path, Reporter(handle), Limits(60.0, 2**30, 1))
    whole, near, lost = (quality({**arguments, "stop_at": wanted}, frame) for wanted in (None, 0.9, 0.99))
    os.close(handle)
    assert (whole["samples"], near["samples"], lost["samples"]) == (597, 597, 512)
    assert near["value"] == pytest.approx(whole["value"]), "the same samples in another order"
    assert 0.8 < lost["value"] < 0.97


def test_what_may_still_be_reached_is_not_given_up() -> None:
    top1 = Registry.load(only=["metrics"], strict=True).quality_metric("top1")
    rows = np.repeat([1.0, 0.0], [440, 72])  # 86%
    assert not out_of_reach(top1, rows, 0.90)
    assert out_of_reach(top1, rows, 0.92)
    few = np.repeat([1.0, 0.0], [55, 9])
    assert not out_of_reach(top1, few, 0.92), "fewer samples say less"
