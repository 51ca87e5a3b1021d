from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_prune.magnitude import MagnitudeParams, PruneMagnitude
from edge_compress_prune.sparsify import compared, kept_of, limit_of
from onnx import TensorProto, helper, numpy_helper

from edge_compress.plugin import DeviceProfileSpec, InvalidSpec, LayerFacts, ModelFacts
from tests.unit.plugins.array_context import ArrayContext

try:
    from compression import zstd
except ImportError:
    from backports import zstd

Array = np.ndarray[Any, Any]
FACTS = ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1}, layers=(LayerFacts("a", "Conv", weight_bytes=900),))


def network() -> onnx.ModelProto:
    """A convolution with weights in an initializer, one in a Constant node and ten times louder, and a Gemm that both share."""
    draw = np.random.default_rng(0)
    first, second = (draw.standard_normal(shape).astype(np.float32) for shape in ((8, 4, 3, 3), (8, 8, 3, 3)))
    matrix = draw.standard_normal((6, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w2"], value=numpy_helper.from_array(10 * second, "value")),
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="second"),
        helper.make_node("GlobalAveragePool", ["b"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "m"], ["y"], transB=1, name="third"),
        helper.make_node("Gemm", ["f", "m"], ["z"], transB=1, name="fourth"),
    ]
    constants = {"w1": first, "b1": draw.standard_normal(8).astype(np.float32), "m": matrix}
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])
    exits = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 6]) for name in "yz"]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [entry], exits, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tensors(model: onnx.ModelProto) -> dict[str, Array]:
    found = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    return {**found, "w2": numpy_helper.to_array(model.graph.node[0].attribute[0].t)}


def pruned(folder: Path, **params: Any) -> tuple[dict[str, Array], ArrayContext]:
    context = ArrayContext({}, scratch=folder)
    changed = PruneMagnitude().apply(network(), MagnitudeParams(**params), context)
    onnx.checker.check_model(changed, full_check=True)
    return tensors(changed), context


def zeros(value: Array) -> float:
    return 1 - np.count_nonzero(value) / value.size


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.9])
def test_each_layer_loses_its_share_wherever_its_weights_are_stored(tmp_path: Path, ratio: float) -> None:
    after, _ = pruned(tmp_path, ratio=ratio)
    for name in ("w1", "w2", "m"):
        assert zeros(after[name]) == pytest.approx(ratio, abs=1 / after[name].size)


def test_the_weights_that_go_are_the_smallest_and_the_rest_is_untouched(tmp_path: Path) -> None:
    before, (after, _) = tensors(network()), pruned(tmp_path, ratio=0.5)
    for name in ("w1", "w2", "m"):
        gone = after[name] == 0
        assert np.abs(before[name][gone]).max() <= np.abs(before[name][~gone]).min()
        assert np.array_equal(before[name][~gone], after[name][~gone])
    assert np.array_equal(before["b1"], after["b1"])


def test_one_ratio_for_all_layers_does_not_depend_on_their_scales() -> None:
    random = np.random.default_rng(1)
    small, large = (random.normal(size=(20, 30)).astype(np.float32) for _ in range(2))
    large *= np.exp(2 * random.normal(size=large.shape)).astype(np.float32)  # a few weights hold most of what it is
    wanted = MagnitudeParams(ratio=0.9, scope="global")

    def kept(scale: float) -> list[np.ndarray[Any, Any]]:
        worths = [compared(np.abs(value), wanted) for value in (scale * small, large)]
        return [kept_of(worth, 1, wanted, limit_of(worths, wanted)) for worth in worths]

    one, other = kept(1.0), kept(1e-3)
    assert all(np.array_equal(before, after) for before, after in zip(one, other, strict=True))
    assert sum(item.sum() for item in one) == 0.1 * (small.size + large.size)
    assert one[1].sum() < one[0].sum(), "what counts is spread over more weights there"


def test_over_all_layers_none_loses_all(tmp_path: Path) -> None:
    after, _ = pruned(tmp_path, ratio=0.95, scope="global")
    assert all(zeros(after[name]) < 1 for name in ("w1", "w2", "m"))


def test_a_threshold_takes_every_smaller_weight(tmp_path: Path) -> None:
    before, (after, _) = tensors(network()), pruned(tmp_path, threshold=0.7)
    for name in ("w1", "w2", "m"):
        assert np.array_equal(after[name], np.where(np.abs(before[name]) < 0.7, 0, before[name]))


@pytest.mark.parametrize(("pattern", "kept", "group"), [("2:4", 2, 4), ("1:3", 1, 3), ("4:4", 4, 4)])
def test_of_each_group_along_the_input_the_largest_stay(tmp_path: Path, pattern: str, kept: int, group: int) -> None:
    before, (after, _) = tensors(network()), pruned(tmp_path, pattern=pattern)
    for name in ("w1", "w2", "m"):
        rows, old = (np.moveaxis(side[name], 1, -1) for side in (after, before))
        for start in range(0, rows.shape[-1] - group + 1, group):
            piece, original = rows[..., start : start + group], np.abs(old[..., start : start + group])
            assert (np.count_nonzero(piece, axis=-1) == kept).all()
            assert np.allclose(np.sort(np.abs(piece))[..., -kept:], np.sort(original)[..., -kept:])


@pytest.mark.parametrize("pattern", ["5:4", "0:4", "2-4", "2:", "a:b", "2:400"])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidSpec, match="pattern"):
        MagnitudeParams(pattern=pattern)


def test_excluded_layers_keep_every_weight_and_shared_ones_count_once(tmp_path: Path) -> None:
    after, context = pruned(tmp_path, ratio=0.5, exclude=("first", "b"))
    assert zeros(after["w1"]) == zeros(after["w2"]) == 0
    assert context.logged == ["24 of 48 weights are zero (50.0%)"]
    with pytest.raises(ValueError, match="no float32 weights"):
        pruned(tmp_path, exclude=("first", "second", "third", "fourth"))
    with pytest.raises(ValueError, match="'frist'"):
        pruned(tmp_path, exclude=("frist",))


def test_the_file_keeps_its_size_and_the_download_shrinks_about_as_foretold(tmp_path: Path) -> None:
    before = network()
    matrix = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    before.graph.initializer[2].CopyFrom(numpy_helper.from_array(matrix, "m"))
    sizes = []
    for ratio in (0.0, 0.5):
        changed = onnx.ModelProto()
        changed.CopyFrom(before)
        PruneMagnitude().apply(changed, MagnitudeParams(ratio=ratio), ArrayContext({}, scratch=tmp_path))
        data = changed.SerializeToString()
        sizes.append((len(data), len(zstd.compress(data, level=19))))
    foretold = PruneMagnitude().expect(
        replace(FACTS, layers=(LayerFacts("a", "Gemm", weight_bytes=1000),)), MagnitudeParams(ratio=0.5)
    )
    assert sizes[0][0] == sizes[1][0]
    assert foretold.bytes == foretold.latency == foretold.memory == 1.0
    assert sizes[1][1] / sizes[0][1] == pytest.approx(foretold.download, abs=0.1)


def test_it_is_proposed_only_where_the_download_counts() -> None:
    strategy = PruneMagnitude()
    metered = replace(DeviceProfileSpec(), link=replace(DeviceProfileSpec().link, metered=True))
    assert not strategy.propose(FACTS, DeviceProfileSpec())
    assert strategy.propose(FACTS, metered)
    assert "already" in strategy.supports(replace(FACTS, ops={"Conv": 1, "QLinearConv": 1}), metered).reason
    assert "no Conv" in strategy.supports(replace(FACTS, ops={"Add": 1}), metered).reason
