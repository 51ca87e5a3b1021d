from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_cluster.weights import ClusterParams, ClusterWeights
from onnx import TensorProto, helper, numpy_helper

from edge_compress.domain.schema import decode
from edge_compress.plugin import DeviceProfileSpec, InvalidSpec, ModelFacts
from tests.unit.plugins.array_context import ArrayContext

try:
    from compression import zstd
except ImportError:
    from backports import zstd

Array = np.ndarray[Any, Any]
FACTS = ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1}, weight_dtypes={"float32": 980})


def network() -> onnx.ModelProto:
    """A convolution with its weights in an initializer, one in a Constant node, a Gemm, a bias and one small matrix."""
    draw = np.random.default_rng(0)
    shapes = {"w1": (64, 16, 3, 3), "b1": (64,), "m": (64, 200), "small": (200, 3)}
    values = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    second = draw.standard_normal((64, 64, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w2"], value=numpy_helper.from_array(second, "value")),
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="second"),
        helper.make_node("GlobalAveragePool", ["b"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "m"], ["g"], name="third"),
        helper.make_node("MatMul", ["g", "small"], ["y"], name="fourth"),
    ]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 8, 8])
    exit_ = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", [entry], [exit_], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tensors(model: onnx.ModelProto) -> dict[str, Array]:
    found = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    return {**found, "w2": numpy_helper.to_array(model.graph.node[0].attribute[0].t)}


def clustered(folder: Path, **params: Any) -> tuple[onnx.ModelProto, ArrayContext]:
    context = ArrayContext({}, scratch=folder)
    changed = ClusterWeights().apply(network(), ClusterParams(**params), context)
    onnx.checker.check_model(changed, full_check=True)
    return changed, context


@pytest.mark.parametrize("clusters", [16, 64, 256])
def test_each_large_tensor_takes_as_many_values_wherever_it_is_stored(tmp_path: Path, clusters: int) -> None:
    before, (changed, context) = tensors(network()), clustered(tmp_path, clusters=clusters)
    after = tensors(changed)
    for name in ("w1", "w2", "m"):
        assert 0.95 * clusters <= len(np.unique(after[name])) <= clusters
        assert np.mean((after[name] - before[name]) ** 2) < 0.5 / clusters
    assert all(np.array_equal(before[name], after[name]) for name in ("b1", "small"))
    assert f"in 3 tensors take at most {clusters} values" in context.logged[0]


def test_excluded_layers_keep_every_weight(tmp_path: Path) -> None:
    before, after = tensors(network()), tensors(clustered(tmp_path, exclude=("first", "g"))[0])
    assert [name for name in after if not np.array_equal(before[name], after[name])] == ["w2"]
    with pytest.raises(ValueError, match="'frist'"):
        clustered(tmp_path, exclude=("frist",))
    with pytest.raises(ValueError, match="99999 values or more"):
        clustered(tmp_path, smallest=99_999)


@pytest.mark.parametrize("clusters", [16, 64])
def test_the_file_keeps_its_size_and_the_download_shrinks_about_as_foretold(tmp_path: Path, clusters: int) -> None:
    changed, _ = clustered(tmp_path, clusters=clusters)
    before, after = (model.SerializeToString() for model in (network(), changed))
    foretold = ClusterWeights().expect(FACTS, ClusterParams(clusters=clusters))
    assert abs(len(before) - len(after)) < 8
    assert foretold.bytes == foretold.latency == foretold.memory == 1.0
    packed = [len(zstd.compress(data, level=12)) for data in (before, after)]
    assert packed[1] / packed[0] == pytest.approx(foretold.download, abs=0.12)


def test_it_is_proposed_only_where_the_download_counts_and_says_where_it_does_not_apply() -> None:
    strategy = ClusterWeights()
    metered = replace(DeviceProfileSpec(), link=replace(DeviceProfileSpec().link, metered=True))
    assert not strategy.propose(FACTS, DeviceProfileSpec())
    assert strategy.propose(FACTS, metered)
    assert strategy.supports(FACTS, metered).ok
    assert "already" in strategy.supports(replace(FACTS, ops={"QLinearConv": 1}), metered).reason
    assert "no float32" in strategy.supports(replace(FACTS, weight_dtypes={"float16": 9}), metered).reason


def test_a_mask_of_infinities_stays_while_weights_are_shared(tmp_path: Path) -> None:
    model = network()
    mask = np.triu(np.full((64, 64), -np.inf, np.float32), 1)
    model.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
    changed = ClusterWeights().apply(model, ClusterParams(clusters=16), ArrayContext({}, scratch=tmp_path))
    held = {item.name: numpy_helper.to_array(item) for item in changed.graph.initializer}
    assert np.array_equal(held["mask"], mask)
    assert len(np.unique(held["w1"])) <= 16


@pytest.mark.parametrize("params", [{"clusters": 8}, {"clusters": 257}, {"smallest": 0}], ids=str)
def test_parameters_out_of_bounds_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match=next(iter(params))):
        decode(ClusterParams, params)
