"""Finds the layers that can be split in two: Gemm and MatMul with constant weights, and convolutions in one group.

Left alone: depthwise and grouped convolutions (each group is thin already), weights that several nodes share (two pairs of
factors would be larger than the one weight), weights that are not float32, and whatever lies in subgraphs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edge_compress.graph.shapes import TensorType, tensor_types
from edge_compress.graph.walk import nodes_within
from edge_compress_lowrank.window import Axes, Window

Array = np.ndarray[Any, Any]
Shaped = tuple[Axes, Window | None]
"""shape of a factor's weights, and its window where it is a convolution"""


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer y = W x + b. ``weight`` is (outputs, inputs, *kernel) and holds Gemm's alpha; ``bias`` holds its beta."""

    name: str
    node: onnx.NodeProto
    weight: Array
    bias: Array | None
    takes_bias: bool
    """a bias can be added to the last factor"""
    window: Window | None
    """None for matrix products"""
    size: Axes
    """spatial size of the input; rows of a matrix product"""

    @property
    def key(self) -> str:
        """The tensor it makes: unlike node names, never used twice."""
        return str(self.node.output[0])

    @property
    def matrix(self) -> Array:
        """W as (outputs, everything one output looks at), float64."""
        return self.weight.reshape(len(self.weight), -1).astype(np.float64)

    @property
    def whole(self) -> Shaped:
        """The layer as it is, as its own only factor."""
        return self.weight.shape, self.window

    def macs(self, factors: Sequence[Shaped]) -> int:
        """Multiply-accumulates for one sample when these follow each other in place of the layer."""
        size, total = self.size, 0
        for shape, window in factors:
            size = window.output(size) if window else size
            total += math.prod(size) * math.prod(shape)
        return total


def find_layers(model: onnx.ModelProto, exclude: Collection[str] = ()) -> list[Layer]:
    """Layers in graph order; ``exclude`` names nodes or tensors they make. Reads tidied models (constants are initializers).

    Raises ValueError when an excluded name is unknown.
    """
    graph = model.graph
    known = {name for node in graph.node for name in (node.name, *node.output)}
    if unknown := next((name for name in exclude if name not in known), None):
        raise ValueError(f"exclude: read {unknown!r}, expected the name of a node or of a tensor that a node makes")
    uses = Counter(name for node in nodes_within(graph.node) for name in node.input)
    uses.update(item.name for item in graph.output)
    weights = {item.name: item for item in graph.initializer if item.data_type == TensorProto.FLOAT}
    types = tensor_types(model)
    found = []
    for node in graph.node:
        own = len(node.input) > 1 and node.input[1] in weights and uses[node.input[1]] == 1
        if own and node.domain in ("", "ai.onnx") and not {node.name, *node.output} & set(exclude):
            layer = _layer(node, weights, types.get(node.input[0]))
            found += [layer] if layer is not None else []
    return found


def _layer(node: onnx.NodeProto, weights: dict[str, TensorProto], entry: TensorType | None) -> Layer | None:
    weight = numpy_helper.to_array(weights[node.input[1]])
    dims = entry.dims if entry is not None else None
    if node.op_type == "Conv":
        return _conv(node, weight, weights, dims)
    if node.op_type == "MatMul" and weight.ndim == 2 and node.input[0] not in weights:
        return Layer(_name(node), node, weight.T, None, False, None, _known(dims[:-1] if dims else None, 1))
    if node.op_type == "Gemm" and weight.ndim == 2:
        return _gemm(node, weight, weights, dims)
    return None


def _conv(
    node: onnx.NodeProto, weight: Array, weights: dict[str, TensorProto], dims: tuple[int | None, ...] | None
) -> Layer | None:
    grouped = any(item.name == "group" and item.i != 1 for item in node.attribute)
    bias = _bias(node, weights)
    if grouped or (bias is None and _third(node)):
        return None
    kernel = tuple(weight.shape[2:])
    window = Window.of(node, kernel)
    size = _known(dims[2:] if dims else None, len(kernel))
    if any(axis < 1 for axis in window.output(size)):  # an unknown size: as if one output was computed
        size = window.reach()
    return Layer(_name(node), node, weight, bias, True, window, size)


def _gemm(
    node: onnx.NodeProto, weight: Array, weights: dict[str, TensorProto], dims: tuple[int | None, ...] | None
) -> Layer | None:
    found = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    bias = _bias(node, weights)
    flat = bias is None or (bias.size in (1, bias.shape[-1] if bias.ndim else 1))
    if found.get("transA", 0) or (bias is None and _third(node)) or not flat:
        return None
    turned = weight if found.get("transB", 0) else weight.T
    scaled = turned * np.float32(found.get("alpha", 1.0))
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1) * np.float32(found.get("beta", 1.0)), (len(scaled),))
    return Layer(_name(node), node, scaled, bias, True, None, _known(dims[:-1] if dims else None, 1))


def _third(node: onnx.NodeProto) -> str:
    return node.input[2] if len(node.input) > 2 else ""


def _bias(node: onnx.NodeProto, weights: dict[str, TensorProto]) -> Array | None:
    tensor = weights.get(_third(node))
    return None if tensor is None else numpy_helper.to_array(tensor)


def _known(dims: tuple[int | None, ...] | None, rank: int) -> Axes:
    """A size that does not follow from the file counts as one: costs are then compared for a single output."""
    return tuple(axis or 1 for axis in dims) if dims is not None else (1,) * rank


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]
