"""Which strided and padded shortcuts become convolutions, and that they say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_graph.optimize import GraphOptimize, OptimizeParams
from edge_compress_graph.shortcuts import convolved
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.graph.tidy import tidied
from tests.unit.plugins.array_context import ArrayContext

SAMPLES = np.random.default_rng(0).normal(size=(5, 3, 9, 8)).astype(np.float32)
WHOLE = 2**63 - 1


def shortcut(
    *,
    slices: tuple[tuple[int, int, int, int], ...] = ((2, 0, WHOLE, 2), (3, 0, WHOLE, 2)),
    pads: Any = (0, 1, 0, 0, 0, 2, 0, 0),
    value: float = 0.0,
) -> onnx.ModelProto:
    """(N, 3, 9, 8) -> a Slice for each (axis, start, end, step), then a Pad."""
    nodes, stored, name = [], [], "x"
    for number, (axis, start, end, step) in enumerate(slices):
        parts = {"starts": start, "ends": end, "axes": axis, "steps": step}
        stored += [numpy_helper.from_array(np.array([number_]), f"{part}{number}") for part, number_ in parts.items()]
        nodes.append(helper.make_node("Slice", [name, *(f"{part}{number}" for part in parts)], [f"s{number}"]))
        name = f"s{number}"
    stored += [numpy_helper.from_array(np.array(pads), "pads"), numpy_helper.from_array(np.float32(value), "value")]
    nodes.append(helper.make_node("Pad", [name, "pads", "value"], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 9, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None, None, None])
    return helper.make_model(
        helper.make_graph(nodes, "shortcut", [x], [y], stored), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )


@pytest.mark.parametrize(
    "slices",
    [
        ((2, 0, WHOLE, 2), (3, 0, WHOLE, 2)),
        ((3, 0, 8, 3),),
        ((-2, 0, 100, 2), (2, 0, WHOLE, 2)),
    ],
    ids=["both axes", "one axis", "twice the same"],
)
def test_picked_pixels_and_padded_channels_are_one_convolution(slices: Any) -> None:
    model = shortcut(slices=slices)
    made = convolved(tidied(model))
    assert [node.op_type for node in made.graph.node] == ["Conv"]
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_array_equal(run_onnx(made, {"x": SAMPLES})[0], run_onnx(model, {"x": SAMPLES})[0])


@pytest.mark.parametrize(
    "what",
    [
        {"slices": ((2, 1, WHOLE, 2),)},
        {"slices": ((2, 0, 6, 2),)},
        {"slices": ((2, 0, WHOLE, 2), (1, 0, WHOLE, 2))},
        {"slices": ((2, 0, WHOLE, 1),)},
        {"pads": (0, 1, 1, 0, 0, 1, 1, 0)},
        {"pads": (0, -1, 0, 0, 0, 2, 0, 0)},
        {"value": 1.0},
    ],
    ids=["starts inside", "ends early", "picks channels", "picks everything", "pads pixels", "cuts channels", "pads with ones"],
)
def test_what_does_more_or_less_stays(what: dict[str, Any]) -> None:
    model = tidied(shortcut(**what))
    made = convolved(model)
    np.testing.assert_array_equal(run_onnx(made, {"x": SAMPLES})[0], run_onnx(model, {"x": SAMPLES})[0])
    assert any(node.op_type == "Pad" for node in made.graph.node)


def test_a_slice_that_others_read_is_kept_for_them() -> None:
    model = shortcut()
    model.graph.output.append(helper.make_tensor_value_info("s0", TensorProto.FLOAT, None))
    made = convolved(tidied(model))
    assert [node.op_type for node in made.graph.node] == ["Slice", "Conv"]
    for got, want in zip(run_onnx(made, {"x": SAMPLES}), run_onnx(model, {"x": SAMPLES}), strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_strategy_does_it(tmp_path: Any) -> None:
    made = GraphOptimize().apply(shortcut(), OptimizeParams(), ArrayContext({"x": SAMPLES}, scratch=tmp_path))
    assert [node.op_type for node in made.graph.node] == ["Conv"]
