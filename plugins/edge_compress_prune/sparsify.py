"""Finds the weights of a model wherever they are stored and sets the small ones to zero. Leaves how many to the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edge_compress_prune.magnitude import PRUNED_OPS, MagnitudeParams

Array = np.ndarray[Any, Any]


def sparsify(model: onnx.ModelProto, params: MagnitudeParams) -> tuple[int, int]:
    """Edit ``model`` in place. Returns how many weights were looked at and how many of them are zero now.

    Raises ValueError when an excluded name is unknown.
    """
    known = {name for node in model.graph.node for name in (node.name, *node.output)}
    if unknown := next((name for name in params.exclude if name not in known), None):
        raise ValueError(f"exclude: read {unknown!r}, expected the name of a node or of a tensor that a node makes")
    values = [(tensor, axis, numpy_helper.to_array(tensor)) for tensor, axis in _weights(model.graph, params.exclude)]
    worths = [compared(np.abs(value), params) for _, _, value in values]
    limit = limit_of(worths, params)
    count = zeros = 0
    for (tensor, axis, value), worth in zip(values, worths, strict=True):
        pruned = np.where(kept_of(worth, axis, params, limit), value, np.float32(0))
        tensor.CopyFrom(numpy_helper.from_array(pruned, tensor.name))
        count += pruned.size
        zeros += pruned.size - int(np.count_nonzero(pruned))
    return count, zeros


def _weights(graph: onnx.GraphProto, exclude: tuple[str, ...]) -> Iterator[tuple[onnx.TensorProto, int]]:
    """Each float32 weight tensor of a multiplying node once, with the axis its inputs lie on."""
    stored = dict(_stored_tensors(graph))
    kept = {name for node in graph.node if node.name in exclude or set(node.output) & set(exclude) for name in node.input}
    seen: set[str] = set()
    for node in graph.node:
        if node.op_type not in PRUNED_OPS or len(node.input) < 2 or node.input[1] in seen | kept:
            continue
        tensor = stored.get(node.input[1])
        if tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            seen.add(node.input[1])
            yield tensor, _input_axis(node, len(tensor.dims))


def _stored_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Constants by name, whether initializers or Constant nodes; inputs with a default may be replaced and are left alone."""
    inputs = {item.name for item in graph.input}
    yield from ((item.name, item) for item in graph.initializer if item.name not in inputs)
    for node in graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], item.t) for item in node.attribute if item.name == "value")


def _input_axis(node: onnx.NodeProto, rank: int) -> int:
    """Conv keeps (outputs, inputs, …), ConvTranspose (inputs, outputs, …), matrices (inputs, outputs) unless transposed."""
    if node.op_type == "Gemm":
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        return 1 if transposed else 0
    return {"Conv": 1, "ConvTranspose": 0}.get(node.op_type, rank - 2)


def compared(size: Array, params: MagnitudeParams) -> Array:
    """Magnitudes of one layer as they are compared with those of others: where one ratio is for all layers, by what share of the
    energy of the weights that are as large or larger each holds (Lee et al. 2021, arXiv:2010.07611). Plain magnitudes depend on
    the scale of what a layer reads: a ResNet-8 that reads 0 to 255 loses its whole first layer by them."""
    if params.scope != "global" or params.threshold is not None or params.pattern or not size.size:
        return size
    squares = np.square(size.reshape(-1).astype(np.float64))
    order = np.argsort(squares, kind="stable")
    above = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(above, 1e-300)
    return scores.reshape(size.shape)


def limit_of(worths: list[Array], params: MagnitudeParams) -> float | None:
    """The worth below which weights go, where it is one for all layers. ``worths``: of each layer's weights, 0 or more."""
    if params.threshold is not None:
        return params.threshold
    if params.scope == "global" and worths and not params.pattern:
        sizes = np.sort(np.concatenate([worth.reshape(-1) for worth in worths]))
        return float(sizes[min(int(params.ratio * sizes.size), sizes.size - 1)])
    return None


def kept_of(worth: Array, axis: int, params: MagnitudeParams, limit: float | None) -> Array:
    """Which weights of a layer stay: bool, of the shape of their ``worth``, whose inputs lie along ``axis``."""
    if params.pattern:
        return _largest_of_groups(worth, axis, *params.kept_of_group())
    if limit is not None:
        return np.asarray(worth >= limit)
    return _largest(worth, worth.size - int(params.ratio * worth.size))


def _largest(size: Array, count: int) -> Array:
    """The ``count`` largest; of equal ones the first, so that the same weights always give the same bytes."""
    kept = np.zeros(size.size, bool)
    kept[np.argsort(-size.reshape(-1), kind="stable")[:count]] = True
    return kept.reshape(size.shape)


def _largest_of_groups(size: Array, axis: int, count: int, group: int) -> Array:
    """The ``count`` largest of each ``group`` along ``axis``; a last group that is short is filled up with nothing."""
    rows = np.moveaxis(size, axis, -1)
    missing = -rows.shape[-1] % group
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)], constant_values=-1.0)
    grouped = padded.reshape(*rows.shape[:-1], -1, group)
    rank = np.argsort(np.argsort(-grouped, axis=-1, kind="stable"), axis=-1, kind="stable")
    kept = (rank < count).reshape(padded.shape)[..., : rows.shape[-1]]
    return np.moveaxis(kept, -1, axis)
