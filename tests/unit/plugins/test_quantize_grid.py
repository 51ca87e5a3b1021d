from __future__ import annotations

import numpy as np
import pytest
from edge_compress_quantize.grid import REDUCED_LIMIT, activation_grid, weight_grid


def test_the_documented_formula_is_what_is_computed() -> None:
    values = np.linspace(-1.0, 3.0, 50, dtype=np.float32)
    grid = activation_grid(-1.0, 3.0, signed=False, symmetric=False)
    wanted = np.rint((values + 1.0) / 4.0 * 255)
    assert np.abs(grid.quantize(values).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (-5.0, 0.0), (2.0, 3.0), (0.0, 0.0)])
def test_zero_is_exact_and_the_range_is_covered(signed: bool, symmetric: bool, low: float, high: float) -> None:
    grid = activation_grid(low, high, signed=signed, symmetric=symmetric)
    values = np.array([0.0, low, high], np.float32)
    back = grid.dequantize(grid.quantize(values))
    assert back[0] == 0
    assert np.abs(back - values).max() <= float(grid.scale) * 0.51


def test_what_is_never_negative_uses_the_whole_unsigned_grid() -> None:
    grid = activation_grid(0.0, 6.0, signed=False, symmetric=True)
    assert (int(grid.zero_point), int(grid.quantize(np.array(6.0)))) == (0, 255)


def test_symmetric_weights_have_no_zero_point_and_negate_exactly() -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    grid = weight_grid(weights, axis=0)
    assert not grid.zero_point.any()
    assert np.array_equal(grid.quantize(-weights), -grid.quantize(weights))
    assert [int(np.abs(row).max()) for row in grid.quantize(weights)] == [127] * 4


def test_reduced_range_cannot_overflow_sixteen_bits() -> None:
    weights = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    stored = weight_grid(weights, axis=0, reduced=True).quantize(weights).astype(int)
    assert np.abs(stored).max() == REDUCED_LIMIT
    assert 2 * 255 * np.abs(stored).max() <= np.iinfo(np.int16).max


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("affine", [False, True])
def test_fewer_bits_use_fewer_integers(bits: int, affine: bool) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 500)).astype(np.float32)
    stored = weight_grid(weights, axis=0, bits=bits, affine=affine).quantize(weights)
    assert stored.dtype == np.int8
    assert len(np.unique(stored)) <= 2**bits


def test_affine_weights_halve_the_error_of_one_sided_channels() -> None:
    weights = np.random.default_rng(0).uniform(0.0, 1.0, (4, 500)).astype(np.float32)
    symmetric, affine = (weight_grid(weights, axis=0, affine=choice) for choice in (False, True))
    errors = [np.abs(grid.dequantize(grid.quantize(weights)) - weights).mean() for grid in (symmetric, affine)]
    assert errors[1] < 0.55 * errors[0]
    assert len(set(affine.zero_point.tolist())) == 1


def test_few_bits_cut_outliers_off_where_that_lowers_the_error() -> None:
    weights = np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)
    weights[0, 0] = 12.0
    grid = weight_grid(weights, axis=0, bits=4)
    assert float(grid.scale[0]) < 0.7 * 12.0 / 7


def test_a_channel_of_zeros_stays_zero() -> None:
    weights = np.zeros((2, 5), np.float32)
    weights[1] = 1.0
    grid = weight_grid(weights, axis=0)
    assert np.isfinite(grid.scale).all()
    assert (grid.scale > 0).all()
    assert not grid.dequantize(grid.quantize(weights))[0].any()


def test_scales_are_never_below_what_the_bias_needs() -> None:
    weights = np.full((2, 5), 1e-6, np.float32)
    grid = weight_grid(weights, axis=0, least=np.array([0.5, 0.0]))
    assert float(grid.scale[0]) == 0.5
    assert float(grid.scale[1]) < 1e-6
