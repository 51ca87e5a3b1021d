"""Steps that a number of bits pays for: as many as were given, fine where noise harms, few different ones."""

from __future__ import annotations

import numpy as np
import pytest
from edge_compress_quantize.rates import Part, coded_bits, steps


def rows(channels: int = 64, length: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, length))


def spent(parts: list[Part], found: list[np.ndarray]) -> float:
    bits = sum(coded_bits(np.rint(part.rows / step[:, None])) for part, step in zip(parts, found, strict=True))
    return bits / sum(part.rows.size for part in parts)


@pytest.mark.parametrize("bits", [1.5, 2.5, 4.0])
def test_what_was_given_is_spent_and_no_more(bits: float) -> None:
    # Parts of many scales, so that their steps do not change at the same moment.
    parts = [Part(rows(seed=seed), np.full(64, 1.37**seed), 127) for seed in range(12)]
    assert bits - 0.15 < spent(parts, steps(parts, bits, trust=0.5)) <= bits


def test_sixteen_times_the_harm_is_a_quarter_of_the_step() -> None:
    parts = [Part(rows(seed=0), np.full(64, 1.0), 127), Part(rows(seed=1), np.full(64, 16.0), 127)]
    coarse, fine = steps(parts, 3.0, trust=0.5)
    assert coarse[0] / fine[0] == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize(("trust", "ratio"), [(0.0, 1.0), (1.0, 4.0)])
def test_channels_differ_as_far_as_they_are_trusted(trust: float, ratio: float) -> None:
    harm = np.where(np.arange(64) < 32, 1.0, 16.0)
    (step,) = steps([Part(rows(), harm, 127)], 3.0, trust=trust)
    assert step[0] / step[-1] == pytest.approx(ratio, rel=0.01)


def test_every_weight_has_an_integer_and_steps_are_few() -> None:
    wide = rows()
    wide[:, 0] *= 1000
    (step,) = steps([Part(wide, np.full(64, 1e6), 64)], 8.0, trust=0.5)
    assert np.abs(np.rint(wide / step[:, None])).max() <= 64
    assert len(np.unique(step)) < 20
    assert np.allclose(np.log2(step) * 2, np.rint(np.log2(step) * 2))


def test_channels_of_zeros_and_without_harm_are_no_trouble() -> None:
    empty = rows()
    empty[3] = 0
    (step,) = steps([Part(empty, np.zeros(64), 127)], 3.0, trust=1.0)
    assert np.isfinite(step).all()
    assert (step > 0).all()


def test_coded_bits_are_the_entropy() -> None:
    assert coded_bits(np.array([0, 0, 1, 1])) == pytest.approx(4)
    assert coded_bits(np.zeros(100)) == 0
