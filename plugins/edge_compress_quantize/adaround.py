"""AdaRound: whether each weight goes up or down to its integer, found by gradients on a relaxed choice that hardens by and by.

Source: Nagel et al. 2020 (arXiv:2004.10568), sections 3.2 and 3.3: rectified sigmoids, their regulariser with a falling exponent,
and the local problem e H e^T of equation 8, whose gradient needs the second moment of a layer's inputs alone and no pass over
data. Scales stay. ``rounding`` descends on the same objective column by column and may leave the two nearest integers; this one
changes all columns together. Never worse than the nearest integers, row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_compress_quantize.grid import Grid

Array = np.ndarray[Any, Any]

_STRETCH = (-0.1, 1.1)
"""range of the sigmoid before it is cut to [0, 1]"""
_ROUNDS = (100, 1000)
_BUDGET = 6e10
"""multiplications for one layer: a few seconds of one core"""
_FREE = 0.2
"""share of the rounds in which choices are not pushed to 0 or 1"""
_EXPONENTS = (20.0, 2.0)
_PUSH = 0.1
"""of the regulariser, against the error that nearest integers leave a weight"""
_LR = 0.05
_DAMPING = 0.01


def adaround(weights: Array, grid: Grid, second: Array) -> Array:
    """Integers of ``weights`` (groups, channels, K) on ``grid``, in its storage type. ``second``: (groups, K, K)."""
    weights = weights.astype(np.float32)
    zero = int(grid.zero_point.flat[0])
    limits = grid.low - zero, grid.high - zero
    scale = np.broadcast_to(grid.scale.reshape(-1), (weights.shape[0] * weights.shape[1],)).reshape(*weights.shape[:2], 1)
    length = weights.shape[2]
    damping = _DAMPING * np.einsum("gkk->gk", second).mean(axis=1) + 1e-12
    moment = (second + damping[:, None, None] * np.eye(length)).astype(np.float32)
    nearest = np.clip(np.rint(weights / scale), *limits)
    floor = np.floor(weights / scale)
    unit = np.maximum(_error(weights, nearest, scale, moment) / length, 1e-30)
    up = _chosen(weights, floor, scale, moment, unit, limits)
    found = np.clip(floor + up, *limits)
    better = _error(weights, found, scale, moment) < _error(weights, nearest, scale, moment)
    return np.asarray(np.where(better, found, nearest) + zero, grid.zero_point.dtype)


def _chosen(weights: Array, floor: Array, scale: Array, moment: Array, unit: Array, limits: tuple[int, int]) -> Array:
    """1 where a weight goes up. Adam on the logits of the choices, from the weights as they are."""
    low, high = _STRETCH
    logits = _logit((weights / scale - floor - low) / (high - low))
    mean, square = np.zeros_like(logits), np.zeros_like(logits)
    rounds = int(np.clip(_BUDGET / max(1, weights.size * weights.shape[2]), *_ROUNDS))
    for step in range(rounds):
        sigmoid = 1 / (1 + np.exp(-logits))
        open_ = np.clip(sigmoid * (high - low) + low, 0, 1)
        error = np.clip(floor + open_, *limits) * scale - weights
        slope = 2 * np.matmul(error, moment) * scale / unit + _PUSH * _pushed(open_, step / rounds)
        slope *= (open_ > 0) & (open_ < 1) & (floor + open_ > limits[0]) & (floor + open_ < limits[1])
        slope *= sigmoid * (1 - sigmoid) * (high - low)
        mean += 0.1 * (slope - mean)
        square += 0.001 * (slope * slope - square)
        corrected = mean / (1 - 0.9 ** (step + 1))
        logits -= _LR * corrected / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
    return np.asarray(logits >= 0)


def _pushed(open_: Array, done: float) -> Array:
    """The slope of the regulariser 1 - |2h - 1|^b, whose exponent falls from the end of the free rounds on."""
    if done < _FREE:
        return np.zeros_like(open_)
    first, last = _EXPONENTS
    part = (done - _FREE) / (1 - _FREE)
    exponent = last + 0.5 * (first - last) * (1 + np.cos(np.pi * part))
    side = 2 * open_ - 1
    return np.asarray(-2 * exponent * np.abs(side) ** (exponent - 1) * np.sign(side))


def _logit(share: Array) -> Array:
    bounded = np.clip(share, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float32)


def _error(weights: Array, steps: Array, scale: Array, moment: Array) -> Array:
    """e H e^T of each row, (groups, channels, 1)."""
    error = steps * scale - weights
    return np.asarray((np.matmul(error, moment) * error).sum(axis=2, keepdims=True))
