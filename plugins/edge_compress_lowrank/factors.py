"""Completes a split: the last factor and the bias that go best with the first ones, by least squares for the output's error.

For the plain SVD that changes nothing; the other ways to split (see ``ways``) are fitted to part of the output only, and need it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_compress_lowrank.layers import Layer
from edge_compress_lowrank.moments import Moment
from edge_compress_lowrank.ways import Array, Factor, Ranks, Way, positive


@dataclass(frozen=True, eq=False)
class Split:
    """A layer's replacement. ``lost``: share of the output's energy (its variance, where a bias takes the mean) that is gone."""

    factors: tuple[Factor, ...]
    bias: Array | None
    lost: float


def output_energy(layer: Layer, moment: Moment) -> float:
    """What the layer's outputs add up to on the data: E|Wx|^2."""
    return float(np.sum(moment.times(layer.matrix) * layer.matrix))


def split(layer: Layer, moment: Moment, way: Way, ranks: Ranks, energy: float) -> Split:
    """Fit the last factor and the bias to the first ones, so that the output's error is least.

    ``energy`` is the layer's ``output_energy``. The channels between the last two factors get a mean square of one, which keeps
    both in the range of any later precision.
    """
    fronts, rows = way.front(ranks)
    seen = moment.times(rows)
    power = np.einsum("rn,rn->r", seen, rows).reshape(len(fronts[-1].weight), -1).mean(axis=1)
    scale = 1 / np.sqrt(np.maximum(power, 1e-30))
    spread = np.repeat(scale, len(rows) // len(scale))[:, None]
    rows, seen = rows * spread, seen * spread
    wanted = seen @ layer.matrix.T
    back = np.linalg.solve(positive(seen @ rows.T), wanted).T
    lost = 1 - float(np.sum(back * wanted.T)) / energy if energy else 0.0
    shape, window = way.shapes(layer, ranks)[-1]
    last = fronts[-1].weight * scale.reshape(-1, *[1] * (fronts[-1].weight.ndim - 1))
    factors = (*fronts[:-1], Factor(last, fronts[-1].window), Factor(back.reshape(shape), window))
    return Split(factors, _bias(layer, moment, back @ rows), max(0.0, lost))


def _bias(layer: Layer, moment: Moment, replaced: Array) -> Array | None:
    if not layer.takes_bias:
        return None
    start = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias.astype(np.float64)
    moved = (layer.matrix - replaced) @ moment.mean
    return start + moved if layer.bias is not None or moved.any() else None
