"""Means over all pixels, written as the pooling that they are.

Exporters write `x.mean([2, 3])` as a ReduceMean over the spatial axes. GlobalAveragePool says the same, and runtimes know it:
it keeps the blocked layouts that convolutions run in, and has an integer kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.shapes import TensorType, tensor_types


def pooled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with such means rewritten; the model itself where it has none. ``model`` is tidy."""
    if not any(node.op_type == "ReduceMean" for node in model.graph.node):
        return model
    types = tensor_types(model)
    stored = {item.name: item for item in model.graph.initializer}
    nodes = [other for node in model.graph.node for other in _written(node, types, stored)]
    if all(new is old for new, old in zip(nodes, model.graph.node, strict=False)) and len(nodes) == len(model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _written(node: onnx.NodeProto, types: Mapping[str, TensorType], stored: Mapping[str, TensorProto]) -> list[onnx.NodeProto]:
    """The node, or what says the same by pooling."""
    if node.op_type != "ReduceMean" or node.domain not in ("", "ai.onnx"):
        return [node]
    kind, axes = types.get(node.input[0]), _axes(node, stored)
    if kind is None or kind.dims is None or kind.elem_type != TensorProto.FLOAT or axes is None:
        return [node]
    rank = len(kind.dims)
    if rank < 3 or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        return [node]
    if _integer(node, "keepdims", 1):
        return [helper.make_node("GlobalAveragePool", [node.input[0]], list(node.output), name=node.name)]
    between = f"{node.output[0]}_pooled"
    pool = helper.make_node("GlobalAveragePool", [node.input[0]], [between], name=node.name)
    return [pool, helper.make_node("Flatten", [between], list(node.output), axis=1)]


def _axes(node: onnx.NodeProto, stored: Mapping[str, TensorProto]) -> list[int] | None:
    """The axes, whether they are an attribute or, from opset 18, a stored input; None where they are not known."""
    if len(node.input) > 1 and node.input[1]:
        return numpy_helper.to_array(stored[node.input[1]]).tolist() if node.input[1] in stored else None
    return next((list(item.ints) for item in node.attribute if item.name == "axes"), None)


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)
