from __future__ import annotations

import numpy as np
import pytest
from edge_compress_cluster.codebook import codebook, nearest


def weights(count: int = 5000) -> np.ndarray:  # type: ignore[type-arg]  # a shape is not a type
    return (0.1 * np.random.default_rng(0).standard_t(5, count)).astype(np.float32)


@pytest.mark.parametrize("count", [2, 16, 64, 256])
def test_each_value_goes_to_its_nearest_centre_and_each_centre_is_the_mean_of_its_values(count: int) -> None:
    values = weights()
    centres = codebook(values, count)
    shared = nearest(values, centres)
    assert 0.75 * count <= len(np.unique(shared)) <= len(centres) <= count
    distances = np.abs(values[:, None].astype(np.float64) - centres)
    assert np.allclose(np.abs(shared - values), distances.min(axis=1), atol=1e-6)
    used = np.unique(shared)
    assert np.allclose(used, [values[shared == centre].mean() for centre in used], atol=2e-3)


def test_it_errs_less_than_an_even_grid_of_as_many_values() -> None:
    values = weights()
    even = np.linspace(values.min(), values.max(), 32).astype(np.float32)
    error = {
        name: np.mean((nearest(values, grid) - values) ** 2) for name, grid in (("even", even), ("kmeans", codebook(values, 32)))
    }
    assert error["kmeans"] < 0.3 * error["even"]


def test_few_distinct_values_stay_exactly_as_they_are() -> None:
    values = np.repeat(np.array([-1.5, 0.0, 0.25], np.float32), 100)
    assert np.array_equal(nearest(values, codebook(values, 16)), values)
    assert np.array_equal(nearest(np.full(9, 3.0, np.float32), codebook(np.full(9, 3.0, np.float32), 16)), np.full(9, 3.0))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_weights_that_were_pruned_stay_zero(share: float) -> None:
    values = weights()
    values[np.argsort(np.abs(values))[: int(share * values.size)]] = 0
    shared = nearest(values, codebook(values, 16))
    assert (shared[values == 0] == 0).all()
    assert len(np.unique(shared)) <= 16


def test_shape_order_and_chance_do_not_matter() -> None:
    values = weights()
    assert np.array_equal(codebook(values, 32), codebook(values[::-1].reshape(50, 100), 32))
    assert nearest(values.reshape(50, 100), codebook(values, 32)).shape == (50, 100)
