"""Gives the weights of an assembly the steps that a number of bits on the wire pays for, and the nearest integers on them.

How harmful noise is comes from gradients (``fisher``), what follows from it from ``rates``. Where the bridge cannot take a model,
there are no gradients: then every layer has the harm that quantising it alone to 4 bits does to the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_compress.graph.bridge import Unsupported
from edge_compress.plugin import Context
from edge_compress_quantize import rates
from edge_compress_quantize.assembly import Assembly, Layer
from edge_compress_quantize.grid import Grid, weight_grid
from edge_compress_quantize.kernels import Kernel, WeightKey
from edge_compress_quantize.reference import Reference

Array = np.ndarray[Any, Any]

_TRUST = 0.5
_ALONE_BITS = 4
_ALONE_SAMPLES = 16
_SMALLEST_STEP = 1e-30


def spend(assembly: Assembly, bits: float, context: Context, *, samples: int, progress: Callable[[float, str], None]) -> None:
    """Set the kernels of ``assembly`` to cost ``bits`` a weight on the mean."""
    layers = _one_each(assembly)
    try:
        harms = _by_gradients(assembly, layers, context, samples, progress)
    except Unsupported as error:
        context.log(f"diagnosis: no gradients ({error}): each layer is quantised alone instead")
        harms = _by_trial(assembly, layers, context, progress)
    grid = weight_grid(layers[0].found.weights, axis=None, reduced=assembly.settings.reduced)
    parts = [rates.Part(_channels(layer), harms[layer.weight], grid.high) for layer in layers]
    for layer, step in zip(layers, rates.steps(parts, bits, trust=_TRUST), strict=True):
        scale = np.asarray(np.maximum(step, _SMALLEST_STEP), np.float32)
        chosen = Grid(scale, np.zeros(scale.shape, np.int8), -grid.high, grid.high, layer.found.axis)
        assembly.kernels[layer.weight] = Kernel(chosen, chosen.quantize(layer.found.weights))
    context.log(f"steps of {len(layers)} weight tensors chosen for {bits:.3g} bits a weight on the wire")


def _one_each(assembly: Assembly) -> list[Layer]:
    """The first layer of each weight tensor."""
    return list({layer.weight: layer for layer in reversed(assembly.layers)}.values())[::-1]


def _channels(layer: Layer) -> Array:
    """Weights as (channels, K)."""
    return np.moveaxis(layer.found.weights, layer.found.axis, 0).reshape(layer.found.weights.shape[layer.found.axis], -1)


def _by_gradients(
    assembly: Assembly, layers: list[Layer], context: Context, samples: int, progress: Callable[[float, str], None]
) -> dict[WeightKey, Array]:
    """Raises Unsupported where the bridge cannot take the model."""
    from edge_compress.graph.bridge import to_torch
    from edge_compress_quantize.fisher import harm
    from edge_compress_quantize.student import makers

    imported = to_torch(assembly.model)
    paths = makers(imported.module)
    if missing := next((layer for layer in layers if layer.key not in paths), None):
        raise Unsupported(f"{missing.title} is no layer of its own in torch")
    parts: dict[WeightKey, Any] = {layer.weight: imported.module.get_submodule(paths[layer.key]) for layer in layers}
    weights = {key: part.weight for key, part in parts.items()}
    return harm(imported.module, weights, imported.inputs, context, samples=samples, progress=progress)


def _by_trial(
    assembly: Assembly, layers: list[Layer], context: Context, progress: Callable[[float, str], None]
) -> dict[WeightKey, Array]:
    truth = Reference(assembly.model, context, samples=_ALONE_SAMPLES, among=_ALONE_SAMPLES)
    found: dict[WeightKey, Array] = {}
    for index, layer in enumerate(layers):
        weights = layer.found.weights
        grid = weight_grid(weights, axis=layer.found.axis, bits=_ALONE_BITS, reduced=assembly.settings.reduced)
        kernel = Kernel(grid, grid.quantize(weights))
        noise = truth.distance(assembly.with_integer_weights([layer], {layer.weight: kernel})).noise
        power = float(np.square(kernel.values.astype(np.float64) - weights).sum())
        found[layer.weight] = np.full(weights.shape[layer.found.axis], noise / max(power, 1e-30))
        progress((index + 1) / len(layers), f"sensitivity: {index + 1} of {len(layers)} layers")
    return found
