"""Finds better integers and biases for the layers of an assembly from the moments of their inputs.

Bias correction: what the integers add to a channel's mean output is taken off its bias. Source: Nagel et al. 2019 (Data-Free
Quantization, arXiv:1906.04721), section 4.2 and its empirical variant in appendix D, with the mean inputs measured. Where a bias
takes up the mean error, ``rounding`` looks only at what varies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edge_compress.plugin import Context
from edge_compress_quantize.adaround import adaround
from edge_compress_quantize.assembly import Assembly, Layer
from edge_compress_quantize.kernels import Kernel
from edge_compress_quantize.moments import Moments, layer_moments
from edge_compress_quantize.rounding import compensated, held

Array = np.ndarray[Any, Any]


def refine(
    assembly: Assembly,
    context: Context,
    *,
    samples: int,
    compensate: bool,
    correct: bool,
    progress: Callable[[float, str], None],
    together: bool = False,
    by_gradients: bool = False,
) -> None:
    """Give ``assembly`` its better kernels (``compensate``) and corrected biases (``correct``). ``together``: the scales of
    a tensor keep their ratios, which were chosen for what they cost on the wire. ``by_gradients``: kernels by AdaRound."""
    placed = assembly.placed()
    nearest = assembly.kernels_for(placed, assembly.grids(placed))
    read = [layer.weight for layer in assembly.layers]
    for layer, moments in layer_moments(assembly, context, samples=samples, progress=progress):
        alone = read.count(layer.weight) == 1
        kernel = assembly.kernels.get(layer.weight, nearest[layer.weight])
        corrected = correct and layer.node.op_type != "MatMul"
        hold = assembly.held.get(layer.weight)
        if hold is not None:
            kernel = _held(layer, kernel, moments.trusted(about_mean=corrected), hold) if compensate and alone else kernel
        elif by_gradients and alone:
            kernel = _up_or_down(layer, kernel, moments.trusted(about_mean=corrected))
        elif compensate and alone:
            kernel = _compensated(layer, kernel, moments.trusted(about_mean=corrected), together)
        assembly.kernels[layer.weight] = kernel
        if corrected:
            assembly.biases[layer.key] = _corrected(layer, kernel, moments)


def _compensated(layer: Layer, kernel: Kernel, second: Array, together: bool) -> Kernel:
    rows = layer.rows(layer.found.weights)
    integers, grid = compensated(rows, kernel.grid, second, together=together)
    return Kernel(grid, layer.from_rows(integers))


def _held(layer: Layer, kernel: Kernel, second: Array, hold: float) -> Kernel:
    start = layer.rows(kernel.integers)
    integers = held(layer.rows(layer.found.weights), kernel.grid, second, start, hold)
    return replace(kernel, integers=layer.from_rows(integers))


def _up_or_down(layer: Layer, kernel: Kernel, second: Array) -> Kernel:
    return replace(kernel, integers=layer.from_rows(adaround(layer.rows(layer.found.weights), kernel.grid, second)))


def _corrected(layer: Layer, kernel: Kernel, moments: Moments) -> Array:
    """The bias without what the integers add to each channel's mean."""
    error = layer.rows(kernel.values).astype(np.float64) - layer.rows(layer.found.weights)
    shift = np.einsum("grk,gk->gr", error, moments.mean).reshape(-1)
    bias = layer.found.bias if layer.found.bias is not None else np.zeros(shift.shape)
    return np.asarray(bias - shift, np.float32)
