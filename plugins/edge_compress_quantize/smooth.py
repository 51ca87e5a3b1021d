"""Moves outliers from activations into weights where a normalisation feeds matrix products: the float network computes the same.

Channel j of the normalisation's scale and shift is divided by s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), and row j of the
products' weights multiplied by it. Source: Xiao et al. 2022 (SmoothQuant, arXiv:2211.10438), equation 4. Applies to
LayerNormalization, and to a Mul and an Add of constants as older exporters write it; only where a few channels are much larger
than the others, and only where nothing but such products reads the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edge_compress_quantize.rules import Multiply, operands
from edge_compress_quantize.wiring import Wiring

Array = np.ndarray[Any, Any]

_OUTLIER = 8.0
"""times the median channel"""
_LARGEST = 100.0
"""a channel is scaled by at most this, or its inverse"""


@dataclass(frozen=True, eq=False)
class Spot:
    """A normalisation and the products that alone read it."""

    tensor: str
    vectors: tuple[str, ...]
    """constants of one number a channel that the tensor is proportional to"""
    products: tuple[tuple[str, Multiply], ...]
    """weights by name, with what the node makes of them"""


def spots(wiring: Wiring) -> list[Spot]:
    """Everywhere it can be done, in graph order."""
    return [found for node in wiring.graph.node if (found := _spot(node, wiring)) is not None]


def smooth(graph: onnx.GraphProto, peaks: Mapping[str, Array], alpha: float) -> int:
    """Edit the constants of ``graph`` in place; returns at how many spots. ``peaks``: the largest size of each channel of every
    spot's tensor; ``alpha``: how much of an outlier moves, 0 to 1."""
    changed: dict[str, Array] = {}
    done = 0
    wiring = Wiring(graph)
    for spot in spots(wiring):
        peak = peaks[spot.tensor].astype(np.float64)
        if peak.max() <= _OUTLIER * np.median(peak):
            continue
        scale = _scale(peak, spot, alpha)
        for name in spot.vectors:
            changed[name] = _value(wiring, name) / scale
        for name, found in spot.products:
            changed[name] = found.weights * (scale[:, None] if found.axis == 1 else scale)
        done += 1
    for item in graph.initializer:
        if item.name in changed:
            item.CopyFrom(numpy_helper.from_array(changed[item.name].astype(np.float32), item.name))
    return done


def _scale(peak: Array, spot: Spot, alpha: float) -> Array:
    rows = [np.abs(found.weights).max(axis=found.axis) for _, found in spot.products]
    weight = np.max(rows, axis=0).astype(np.float64)
    used = (peak > 0) & (weight > 0)
    scale = np.divide(peak**alpha, weight ** (1 - alpha), out=np.ones(len(peak)), where=used)
    # Equal factors for all channels change nothing, so the typical channel may keep its size.
    return np.asarray(np.clip(scale / np.median(scale), 1 / _LARGEST, _LARGEST))


def _spot(node: onnx.NodeProto, wiring: Wiring) -> Spot | None:
    vectors = _vectors(node, wiring)
    if not vectors:
        return None
    tensor = node.output[0]
    readers = wiring.readers[tensor]
    if not readers or tensor in wiring.outputs or tensor in wiring.captured:
        return None
    multiplied = [(reader, operands(reader, wiring)) for reader in readers if reader.op_type in ("MatMul", "Gemm")]
    products = [(reader.input[1], found) for reader, found in multiplied if found is not None and reader.input[0] == tensor]
    fitting = tuple((name, found) for name, found in products if _fits(name, found, vectors, wiring))
    return Spot(tensor, vectors, fitting) if len(fitting) == len(readers) else None


def _fits(name: str, found: Multiply, vectors: tuple[str, ...], wiring: Wiring) -> bool:
    channels = _value(wiring, vectors[0]).size
    return found.weights.ndim == 2 and found.weights.shape[1 - found.axis] == channels and _own(name, wiring)


def _vectors(node: onnx.NodeProto, wiring: Wiring) -> tuple[str, ...]:
    """The vectors of a normalisation that ends in ``node``; empty where it is none, or others use them too."""
    names: list[str] = []
    if node.op_type == "LayerNormalization":
        names = [name for name in node.input[1:] if name]
    elif node.op_type == "Add":
        inner = [wiring.producer[name] for name in node.input if name in wiring.producer]
        if len(inner) == 1 and inner[0].op_type == "Mul" and wiring.only_reader(inner[0].output[0]) is not None:
            names = [name for part in (inner[0], node) for name in part.input if name in wiring.constants]
    expected = 2 if node.op_type == "Add" else max(1, len(names))
    plain = all(name in wiring.constants and len(wiring.constants[name].dims) == 1 and _own(name, wiring) for name in names)
    sizes = {wiring.constants[name].dims[0] for name in names} if plain else set()
    return tuple(names) if len(names) == expected and len(sizes) == 1 and max(sizes) > 1 else ()


def _own(name: str, wiring: Wiring) -> bool:
    floats = wiring.float_constant(name) is not None
    return floats and len(wiring.readers[name]) == 1 and name not in wiring.captured | wiring.outputs


def _value(wiring: Wiring, name: str) -> Array:
    return numpy_helper.to_array(wiring.constants[name]).astype(np.float64)
