"""Which residual blocks go, on small networks whose blocks do more or less."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from edge_compress_prune.schedule import Schedule
from edge_compress_prune.structured import PruneStructured, StructuredParams
from edge_compress_prune.structured_blocks import arithmetic_of, drop_blocks, find_blocks, without
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.bridge.answers import read_answers
from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.graph.tidy import tidied
from tests.unit.plugins.array_context import ArrayContext

STRENGTHS = (1.0, 0.0, 0.4)
"""how much each block of the network adds"""

ONCE, NEVER = Schedule(epochs=1), Schedule(epochs=0)


def network(strengths: tuple[float, ...] = STRENGTHS) -> onnx.ModelProto:
    """(N, 4, 6, 6) -> residual blocks of two convolutions -> (N, 5) scores."""
    random = np.random.default_rng(0)
    nodes, stored, name = [], [], "x"
    for number, strength in enumerate(strengths):
        for part, scale in (("a", 0.4), ("b", 0.4 * strength)):
            weight = (random.normal(size=(4, 4, 3, 3)) * scale).astype(np.float32)
            stored.append(numpy_helper.from_array(weight, f"w{number}{part}"))
        nodes += [
            helper.make_node("Conv", [name, f"w{number}a"], [f"c{number}"], pads=[1] * 4),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
            helper.make_node("Conv", [f"r{number}", f"w{number}b"], [f"d{number}"], pads=[1] * 4),
            helper.make_node("Add", [f"d{number}", name], [f"sum{number}"]),
            helper.make_node("Relu", [f"sum{number}"], [f"block{number}"]),
        ]
        name = f"block{number}"
    stored.append(numpy_helper.from_array(random.normal(size=(144, 5)).astype(np.float32), "head"))
    nodes += [helper.make_node("Flatten", [name], ["flat"]), helper.make_node("MatMul", ["flat", "head"], ["scores"])]
    interface = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5])],
    ]
    graph = helper.make_graph(nodes, "blocks", *interface, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def samples() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(32, 4, 6, 6)).astype(np.float32)


def dropped(model: onnx.ModelProto, share: float, samples: np.ndarray[Any, Any]) -> tuple[onnx.ModelProto, list[str]]:
    batches = [[torch.from_numpy(samples)]]
    told = [Teacher(model).answer(batch)[0] for batch in batches]
    return drop_blocks(model, share, batches, told, read_answers(told[0]))


def test_blocks_are_found_with_what_belongs_to_them_alone() -> None:
    found = find_blocks(tidied(network()))
    assert [(block.start, block.end) for block in found] == [("x", "sum0"), ("block0", "sum1"), ("block1", "sum2")]
    assert found[1].nodes == {"c1", "r1", "d1", "sum1"}


def test_the_block_that_does_nothing_goes_first_and_nothing_changes(samples: np.ndarray[Any, Any]) -> None:
    model = network()
    shallow, lines = dropped(model, 0.3, samples)
    assert [line.split(" goes")[0] for line in lines] == ["block before sum1"]
    np.testing.assert_allclose(run_onnx(shallow, {"x": samples})[0], run_onnx(model, {"x": samples})[0], rtol=1e-4, atol=1e-5)
    assert arithmetic_of(shallow) < 0.7 * arithmetic_of(model)


def test_more_of_them_go_in_the_order_of_what_they_do(samples: np.ndarray[Any, Any]) -> None:
    _, lines = dropped(network(), 0.67, samples)
    assert [line.split(" goes")[0] for line in lines] == ["block before sum1", "block before sum2"]


def test_a_block_that_is_an_output_too_leaves_its_output_in_place(samples: np.ndarray[Any, Any]) -> None:
    model = network()
    model.graph.output.append(helper.make_tensor_value_info("sum1", TensorProto.FLOAT, ["batch", 4, 6, 6]))
    names = {block.end for block in find_blocks(tidied(model))}
    assert "sum1" not in names
    shallow, _ = dropped(model, 0.4, samples)
    assert [item.name for item in shallow.graph.output] == ["scores", "sum1"]


def test_a_projected_shortcut_is_no_block() -> None:
    model = network((1.0,))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "wp"))
    add = next(node for node in model.graph.node if node.op_type == "Add")
    add.input[1] = "projected"
    model.graph.node.insert(0, helper.make_node("Conv", ["x", "wp"], ["projected"]))
    assert find_blocks(tidied(model)) == []


def test_without_keeps_the_interface_and_runs(samples: np.ndarray[Any, Any]) -> None:
    model = tidied(network())
    shallow = without(model, find_blocks(model)[0])
    onnx.checker.check_model(shallow, full_check=True)
    assert run_onnx(shallow, {"x": samples})[0].shape == (32, 5)


def test_the_strategy_drops_trains_and_tells(tmp_path: Any, samples: np.ndarray[Any, Any]) -> None:
    model = network()
    context = ArrayContext({"x": samples}, scratch=tmp_path, teacher=model)
    made = PruneStructured().apply(network(), StructuredParams(blocks=0.3, ratio=0.0, schedule=ONCE, batch=16), context)
    assert [item.name for item in made.graph.input] == ["x"]
    assert sum(node.op_type == "Conv" for node in made.graph.node) == 4
    assert any("goes whole" in line for line in context.logged)


def test_a_model_without_blocks_is_refused(tmp_path: Any, samples: np.ndarray[Any, Any]) -> None:
    model = network(())
    context = ArrayContext({"x": samples}, scratch=tmp_path, teacher=model)
    with pytest.raises(ValueError, match="no residual block can go"):
        PruneStructured().apply(network(()), StructuredParams(blocks=0.3, ratio=0.0), context)


def test_answers_that_no_cut_keeps_are_refused_before_training(tmp_path: Any, samples: np.ndarray[Any, Any]) -> None:
    strengths = (1.0, 0.9, 0.8)
    model = network(strengths)
    context = ArrayContext({"x": samples}, scratch=tmp_path, teacher=model)
    with pytest.raises(ValueError, match="keep: the mildest cut leaves"):
        PruneStructured().apply(network(strengths), StructuredParams(keep=1.0, round_to=1, schedule=NEVER), context)
    kept = PruneStructured().apply(
        network(strengths), StructuredParams(blocks=0.3, keep=1.0, round_to=1, schedule=NEVER), context
    )
    assert {item.dims[0] for item in kept.graph.initializer if len(item.dims) == 4} == {4}
