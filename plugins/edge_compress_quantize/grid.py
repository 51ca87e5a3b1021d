"""The integer grid a tensor is stored on: pure arithmetic between real values and b-bit integers.

A real value r in [rmin, rmax] becomes q = round((r - rmin) / (rmax - rmin) * (2^b - 1)), shifted to the storage type; written
with scale = (rmax - rmin) / (2^b - 1) and zero_point = round(-rmin / scale) this is q = round(r / scale) + zero_point,
saturated, as ONNX's QuantizeLinear computes it (half to even). Zero always lies on the grid, so that padding is exact.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
section 2.1; the limit of 64 for reduced range: onnxruntime, "Quantize ONNX models", section on U8S8 saturation.

Leaves to ``ranges`` which range an activation gets, and to ``qdq`` where grids go in a graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

REDUCED_LIMIT = 64
"""u8 x s8 pairs sum to at most 2 * 255 * 64 = 32640, which 16 bits hold; processors without VNNI saturate above 32767"""

_SMALLEST_SCALE = 1e-30
"""keeps scale_x * scale_w / scale_y finite and normal in float32"""
_SHRINK = [1 - step / 50 for step in range(31)]


@dataclass(frozen=True, eq=False)
class Grid:
    """Scale and zero point, of one number or one a channel, with the lowest and highest integer that may be used."""

    scale: Array
    """float32, shape () or (channels,)"""
    zero_point: Array
    """uint8 or int8, the shape of ``scale``"""
    low: int
    high: int
    axis: int | None = None
    """the channel axis of the tensor; None: one scale for all of it"""

    def quantize(self, values: Array) -> Array:
        """Nearest integers, saturated to [low, high], in the storage type."""
        scale, zero_point = self._aligned(values.ndim)
        steps = np.rint(values.astype(np.float64) / scale) + zero_point
        return np.asarray(np.clip(steps, self.low, self.high), self.zero_point.dtype)

    def dequantize(self, stored: Array) -> Array:
        """Real values of stored integers, float32."""
        scale, zero_point = self._aligned(stored.ndim)
        return np.asarray((stored.astype(np.float64) - zero_point) * scale, np.float32)

    def _aligned(self, rank: int) -> tuple[Array, Array]:
        scale, zero_point = self.scale.astype(np.float64), self.zero_point.astype(np.int64)
        if self.axis is None:
            return scale, zero_point
        shape = [1] * rank
        shape[self.axis] = -1
        return scale.reshape(shape), zero_point.reshape(shape)


def activation_grid(low: float, high: float, *, signed: bool, symmetric: bool) -> Grid:
    """The 8-bit grid of an activation that takes values in [low, high].

    Affine: the whole range is used. Symmetric: zero lies in the middle, or at the bottom of an unsigned grid where nothing is
    negative.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    dtype = np.dtype(np.int8 if signed else np.uint8)
    floor, ceiling = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if symmetric and (signed or low < 0):
        scale = max(-low, high) / 127
        return _grid(scale or 1.0, 0 if signed else 128, dtype, floor, ceiling)
    scale = (high - low) / 255 or 1.0
    return _grid(scale, floor + round(-low / scale), dtype, floor, ceiling)


def weight_grid(
    weights: Array, *, axis: int | None, bits: int = 8, affine: bool = False, reduced: bool = False, least: Array | None = None
) -> Grid:
    """The grid of a weight tensor, stored in int8 whatever ``bits`` is (2 to 8).

    At 8 bits the whole range is kept; with fewer, values far out are cut off where that lowers the squared error.
    ``axis`` is the channel axis, None for one scale. ``reduced`` keeps |q| within 64. ``least`` is the smallest scale allowed,
    one a channel (a bias must fit 32 bits).
    """
    low, high = _limits(bits, affine, reduced)
    over = tuple(i for i in range(weights.ndim) if i != axis)
    bottom = np.minimum(weights.min(axis=over), 0.0).astype(np.float64)
    top = np.maximum(weights.max(axis=over), 0.0).astype(np.float64)
    zero_point = _common_zero_point(bottom, top, low, high) if affine else 0
    scale = np.maximum(_reach(top, high - zero_point), _reach(-bottom, zero_point - low))
    full = Grid(_floored(scale, least), np.full(scale.shape, zero_point, np.int8), low, high, axis)
    return full if bits == 8 else _clipped(full, weights, over, least)


def _clipped(full: Grid, weights: Array, over: tuple[int, ...], least: Array | None) -> Grid:
    """The grid whose scales, shrunken one by one, give the least squared error: with few integers, outliers cost too much."""
    best, least_error = full.scale, np.full(full.scale.shape, np.inf)
    for part in _SHRINK:
        trial = replace(full, scale=_floored(full.scale * part, least))
        error = ((trial.dequantize(trial.quantize(weights)) - weights) ** 2).sum(axis=over)
        best = np.where(error < least_error, trial.scale, best)
        least_error = np.minimum(error, least_error)
    return replace(full, scale=best)


def _floored(scale: Array, least: Array | None) -> Array:
    floor = _SMALLEST_SCALE if least is None else np.maximum(least, _SMALLEST_SCALE)
    return np.asarray(np.maximum(scale, floor), np.float32)


def _grid(scale: float, zero_point: int, dtype: np.dtype[Any], low: int, high: int) -> Grid:
    scale = max(scale, _SMALLEST_SCALE)
    return Grid(np.asarray(scale, np.float32), np.asarray(min(max(zero_point, low), high), dtype), low, high)


def _limits(bits: int, affine: bool, reduced: bool) -> tuple[int, int]:
    """Symmetric grids leave out the lowest integer, so that negation is exact."""
    half = 1 << (bits - 1)
    low, high = (-half if affine else 1 - half), half - 1
    if reduced:
        low, high = max(low, -REDUCED_LIMIT), min(high, REDUCED_LIMIT)
    return low, high


def _reach(extent: Array, steps: int) -> Array:
    """The scale at which ``steps`` integers cover ``extent``; unbounded where there are none."""
    if steps == 0:
        return np.where(extent > 0, np.inf, 0.0)
    return np.asarray(extent / steps)


def _common_zero_point(bottom: Array, top: Array, low: int, high: int) -> int:
    """The zero point that all channels share with the least rounding noise (onnxruntime's kernels take only one)."""
    noise = []
    for candidate in range(low, high + 1):
        scale = np.maximum(_reach(top, high - candidate), _reach(-bottom, candidate - low))
        noise.append(float(np.sum(scale**2)))
    best = int(np.argmin(noise))
    return low + best


@dataclass(frozen=True)
class GridSettings:
    """The integers that weights and activations are stored in."""

    bits: int = 8
    affine_weights: bool = False
    per_channel: bool = True
    reduced: bool = False
    signed_activations: bool = False
    symmetric_activations: bool = False

    def activation(self, low: float, high: float) -> Grid:
        """The grid of an activation that takes values in [low, high]."""
        return activation_grid(low, high, signed=self.signed_activations, symmetric=self.symmetric_activations)

    def weight(self, weights: Array, axis: int, least: Array | None) -> Grid:
        """The grid of a weight tensor whose channel axis is ``axis``."""
        if not self.per_channel and least is not None:
            least = least.max()
        return weight_grid(
            weights,
            axis=axis if self.per_channel else None,
            bits=self.bits,
            affine=self.affine_weights,
            reduced=self.reduced,
            least=least,
        )
