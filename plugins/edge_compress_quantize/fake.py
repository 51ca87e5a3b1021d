"""Integers imitated in float while a model trains: answers are exact, gradients pass straight through.

Weights are trained in steps (a weight of 2.3 steps is used as 2), so that one learning rate fits layers of any scale, and the
step of each channel may be learnt with them. Sources: straight-through: Bengio et al. 2013 (arXiv:1308.3432); learned steps:
Esser et al. 2020 (LSQ, arXiv:1902.08153), whose gradient of the step falls out of writing a weight as step * round(value). Leaves
which tensor gets which grid to ``student``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_compress_quantize.grid import Grid
from edge_compress_quantize.kernels import Kernel

Array = np.ndarray[Any, Any]

_STEP_SHARE = 0.1
"""change of a step, as a power of e, for a unit of what is trained"""
_TYPICAL = 64
"""steps of an activation; times a step of each weight, at random, it is what makes a bias worth changing"""
_WITHIN = 0.45
"""how far from its integer a weight may start, in steps; at half a step it would be another's"""


class IntegerWeights(nn.Module):
    """A parametrisation: float weights in steps -> what their integers stand for."""

    start: Tensor

    def __init__(self, kernel: Kernel, *, learn_steps: bool) -> None:
        super().__init__()
        grid, rank = kernel.grid, kernel.integers.ndim
        shape = [1] * rank
        if grid.axis is not None:
            shape[grid.axis] = -1
        zero = int(grid.zero_point.flat[0])
        self.low, self.high = grid.low - zero, grid.high - zero
        self.register_buffer("start", torch.from_numpy(grid.scale.reshape(shape if grid.axis is not None else [1] * rank).copy()))
        self.change = nn.Parameter(torch.zeros_like(self.start), requires_grad=learn_steps)

    @property
    def step(self) -> Tensor:
        """Steps that broadcast over the weights."""
        return self.start * torch.exp(_STEP_SHARE * self.change)

    def integers(self, weights: Tensor) -> Tensor:
        """The integers of weights in steps, less the zero point, as floats."""
        return weights.clamp(self.low, self.high).round()

    def forward(self, weights: Tensor) -> Tensor:
        """Weights in steps -> weights; gradients pass where the weight is within the grid."""
        bounded = weights.clamp(self.low, self.high)
        return (bounded + (bounded.round() - bounded).detach()) * self.step

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Weights -> weights in steps."""
        return weights / self.step.detach()


class IntegerBias(nn.Module):
    """A parametrisation: the change of a bias, in ``unit`` a channel -> the bias on its grid of data step * weight step."""

    start: Tensor
    unit: Tensor

    def __init__(self, bias: Tensor, weights: IntegerWeights, data_step: float, fan_in: int) -> None:
        super().__init__()
        self.register_buffer("start", bias.detach().clone())
        unit = weights.start.reshape(-1) * data_step * _TYPICAL * fan_in**0.5
        self.register_buffer("unit", unit.expand(bias.shape).clone())
        # In a tuple, so that the weights' own parameters are not counted as this module's too.
        self._weights, self._data_step = (weights,), data_step

    def forward(self, change: Tensor) -> Tensor:
        """The change in units -> the bias."""
        bias = self.start + change * self.unit
        step = self._weights[0].step.detach().reshape(-1) * self._data_step
        return bias + (torch.round(bias / step) * step - bias).detach()

    def right_inverse(self, bias: Tensor) -> Tensor:
        """The bias -> the change in units."""
        return (bias - self.start) / self.unit


class _OnGrid(torch.autograd.Function):
    """What ``torch.fake_quantize_per_tensor_affine`` does, which takes half of a training step where this takes a tenth."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: int, high: int) -> Tensor:
        """``low`` and ``high``: integers less the zero point."""
        whole = (x * (1.0 / step)).round_()
        ctx.save_for_backward((whole >= low) & (whole <= high))
        return whole.clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Straight through, within the grid."""
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None


class Gridded(nn.Module):
    """An activation on its grid: QuantizeLinear and DequantizeLinear in one."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.step, self.zero = float(grid.scale), int(grid.zero_point)
        self.low, self.high = grid.low - self.zero, grid.high - self.zero

    def forward(self, x: Tensor) -> Tensor:
        """Same shape; gradients pass where the value is within the grid."""
        made: Tensor = _OnGrid.apply(x, self.step, self.low, self.high)
        return made

    def extra_repr(self) -> str:
        """The grid."""
        return f"step={self.step:.4g}, zero={self.zero}"


def near(weights: Array, kernel: Kernel) -> Array:
    """Float weights that ``kernel`` gives the same integers to, as near to ``weights`` as that allows; float32."""
    zero = int(kernel.grid.zero_point.flat[0])
    ones = np.full(kernel.integers.shape, 1 + zero, kernel.integers.dtype)
    unit = kernel.grid.dequantize(ones).astype(np.float64)
    whole = kernel.integers.astype(np.float64) - zero
    part = np.clip(weights.astype(np.float64) / unit - whole, -_WITHIN, _WITHIN)
    return np.asarray((whole + part) * unit, np.float32)
