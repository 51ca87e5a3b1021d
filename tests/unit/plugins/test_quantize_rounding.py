from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_quantize.grid import weight_grid
from edge_compress_quantize.rounding import compensated
from edge_compress_quantize.static import QuantizeStatic, StaticParams

from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_mixed import chain, images, outputs, signal_to_noise

Array = np.ndarray[Any, Any]


def correlated(groups: int, length: int) -> Array:
    """Second moments of data whose columns go together, as those of images do."""
    draw = np.random.default_rng(3)
    rows = draw.standard_normal((groups, 4 * length, length)) @ (
        np.eye(length) + 0.8 * draw.standard_normal((groups, length, length))
    )
    return np.asarray(np.matmul(rows.transpose(0, 2, 1), rows) / rows.shape[1])


def added_error(weights: Array, made: Array, second: Array) -> float:
    error = made - weights
    return float(np.einsum("grk,gkl,grl->", error, second, error))


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize(("groups", "channels", "length"), [(1, 6, 90), (8, 1, 9), (2, 4, 20)])
def test_errors_make_up_for_each_other(bits: int, axis: int | None, groups: int, channels: int, length: int) -> None:
    weights = np.random.default_rng(0).standard_normal((groups, channels, length))
    second = correlated(groups, length)
    grid = weight_grid(weights.reshape(groups * channels, length), axis=axis, bits=bits)
    near = grid.dequantize(grid.quantize(weights.reshape(-1, length))).reshape(weights.shape)
    integers, refitted = compensated(weights, grid, second)
    made = refitted.dequantize(integers.reshape(-1, length)).reshape(weights.shape)
    assert added_error(weights, made, second) < 0.75 * added_error(weights, near, second)
    assert integers.dtype == np.int8
    assert grid.low <= integers.min()
    assert integers.max() <= grid.high
    assert refitted.scale.shape == grid.scale.shape


def test_columns_that_do_not_go_together_keep_their_nearest_integers() -> None:
    weights = np.random.default_rng(0).standard_normal((1, 4, 30))
    grid = weight_grid(weights[0], axis=0, bits=8)
    integers, _ = compensated(weights, grid, np.eye(30)[None])
    assert np.mean(integers[0] == grid.quantize(weights[0])) > 0.95


def test_scales_stay_above_what_the_bias_needs() -> None:
    weights = np.random.default_rng(0).standard_normal((1, 3, 20))
    least = np.array([1.0, 0.0, 0.0])
    grid = weight_grid(weights[0], axis=0, bits=4, least=least)
    _, refitted = compensated(weights, grid, correlated(1, 20), least)
    assert float(refitted.scale[0]) == 1.0
    assert float(refitted.scale[1]) < 1.0


def test_channels_without_weights_or_data_stay_finite() -> None:
    weights = np.zeros((2, 2, 9))
    weights[0, 0] = 1.0
    second = correlated(2, 9)
    second[1] = 0.0
    integers, grid = compensated(weights, weight_grid(weights.reshape(4, 9), axis=0, bits=4), second)
    made = grid.dequantize(integers.reshape(4, 9))
    assert np.isfinite(made).all()
    assert not made[1:].any()


def quantized(folder: Path, **params: Any) -> tuple[onnx.ModelProto, ArrayContext]:
    context = ArrayContext({"x": images()}, scratch=folder)
    return QuantizeStatic().apply(chain({}), StaticParams(**params), context), context


@pytest.mark.parametrize(
    "better", [{"rounding": "compensated"}, {"correct_bias": True}, {"rounding": "compensated", "correct_bias": True}], ids=str
)
def test_four_bits_lose_far_less_than_with_the_nearest_integers(tmp_path: Path, better: dict[str, Any]) -> None:
    model = chain({})
    plain, _ = quantized(tmp_path, bits=4, rounding="nearest", correct_bias=False)
    changed, _ = quantized(tmp_path, bits=4, **{"rounding": "nearest", "correct_bias": False, **better})
    assert signal_to_noise(model, changed) > signal_to_noise(model, plain) + 3


def test_corrected_biases_bring_the_mean_output_back(tmp_path: Path) -> None:
    made = [quantized(tmp_path, bits=4, rounding="nearest", correct_bias=choice)[0] for choice in (False, True)]
    wanted, plain, corrected = (outputs(model, images()).mean(axis=0) for model in (chain({}), *made))
    assert np.abs(corrected - wanted).max() < 0.4 * np.abs(plain - wanted).max()


def test_rounding_reports_progress_for_every_layer(tmp_path: Path) -> None:
    _, context = quantized(tmp_path, bits=4)
    assert context.fractions == sorted(context.fractions)
    assert len(set(context.fractions)) > 8
