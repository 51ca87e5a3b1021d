"""Makes the weights of a model share few values, wherever they are stored. Leaves which values to ``codebook``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edge_compress.graph.walk import nodes_within, tensors
from edge_compress_cluster.codebook import codebook, nearest
from edge_compress_cluster.weights import ClusterParams


@dataclass(frozen=True)
class Shared:
    """What was done: tensors and weights changed, and their mean squared error as a share of their mean square."""

    tensors: int
    weights: int
    error: float


def share(model: onnx.ModelProto, params: ClusterParams) -> Shared:
    """Edit ``model`` in place. Tensors with infinities (masks have them) stay. Raises ValueError for an unknown excluded name."""
    kept = _kept(model.graph, params.exclude)
    touched = weights = 0
    error = energy = 0.0
    for tensor in _weights(model.graph, params.smallest):
        before = numpy_helper.to_array(tensor)
        if tensor.name in kept or not np.isfinite(before).all():
            continue
        after = nearest(before, codebook(before, params.clusters))
        tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))
        touched, weights = touched + 1, weights + before.size
        error += float(np.sum((after.astype(np.float64) - before) ** 2))
        energy += float(np.sum(before.astype(np.float64) ** 2))
    return Shared(touched, weights, error / energy if energy else 0.0)


def _weights(graph: onnx.GraphProto, smallest: int) -> Iterator[onnx.TensorProto]:
    """Float32 constants with so many values; inputs with a default may be replaced by a caller and are left alone."""
    inputs = {item.name for item in graph.input}
    for tensor in tensors(graph):
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in inputs and np.prod(tensor.dims) >= smallest:
            yield tensor


def _kept(graph: onnx.GraphProto, exclude: tuple[str, ...]) -> set[str]:
    """Names of the tensors that excluded nodes read or hold."""
    nodes = list(nodes_within(graph.node))
    known = {name for node in nodes for name in (node.name, *node.output)}
    if unknown := next((name for name in exclude if name not in known), None):
        raise ValueError(f"exclude: read {unknown!r}, expected the name of a node or of a tensor that a node makes")
    return {name for node in nodes if {node.name, *node.output} & set(exclude) for name in node.input}
