"""AdaRound: less error than the nearest integers on the objective it is for, one of the two neighbours, never worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_quantize.adaround import adaround
from edge_compress_quantize.grid import weight_grid
from edge_compress_quantize.static import QuantizeStatic, StaticParams

from edge_compress.graph.bridge.parity import run_onnx
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_static import model_of, samples, weights

Array = np.ndarray[Any, Any]


def problem(channels: int = 16, length: int = 24) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    rows = random.standard_normal((200, length)) @ (np.eye(length) + 0.4 * random.standard_normal((length, length)))
    return random.standard_normal((1, channels, length)).astype(np.float32), (rows.T @ rows / 200)[None]


def errors(weights: Array, values: Array, second: Array) -> Array:
    apart = (values - weights).astype(np.float64)
    return np.einsum("grk,gkl,grl->gr", apart, second, apart)


@pytest.mark.parametrize(("axis", "affine"), [(0, False), (None, False), (0, True)])
def test_going_up_or_down_together_leaves_less_error(axis: int | None, affine: bool) -> None:
    weights, second = problem()
    grid = weight_grid(weights[0], axis=axis, bits=3, affine=affine)
    nearest = grid.dequantize(grid.quantize(weights[0]))[None]
    integers = adaround(weights, grid, second)
    found = grid.dequantize(integers[0])[None]
    assert integers.dtype == np.int8
    assert integers.min() >= grid.low
    assert integers.max() <= grid.high
    assert (errors(weights, found, second) <= errors(weights, nearest, second) * 1.02).all()
    assert errors(weights, found, second).sum() < 0.8 * errors(weights, nearest, second).sum()
    inside = np.abs(weights) < 0.9 * np.abs(nearest).max()
    step = float(np.max(grid.scale))
    assert np.abs(found - weights)[inside].max() <= step * 1.01


def test_a_layer_in_few_bits_is_nearer_with_it(tmp_path: Path) -> None:
    """One layer on unlike, dependent inputs: what a layer's own error says is what the outputs show."""
    data = np.einsum("nchw,cd->ndhw", samples(), np.array([[1, 0.9, 0.8], [0, 0.4, 0.5], [0, 0, 0.3]], np.float32))
    model = model_of([onnx.helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3])], {"w": weights(16, 3, 3, 3)})
    wanted = run_onnx(model, {"x": data})[0]

    def distance(rounding: str) -> float:
        context = ArrayContext({"x": data}, scratch=tmp_path)
        made = QuantizeStatic().apply(model, StaticParams(bits=3, rounding=rounding, correct_bias=True), context)
        return float(np.square(run_onnx(made, {"x": data})[0] - wanted).sum())

    assert distance("adaround") < 0.9 * distance("nearest")
