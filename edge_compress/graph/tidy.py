"""One form for graphs that compute the same: in order, constants held once and as initializers, nothing that nobody uses.

Nodes keep their operators and names; arithmetic is never touched. Changes to either belong to plugins.
"""

from __future__ import annotations

import itertools

import onnx
from onnx import inliner, numpy_helper

from edge_compress.graph.shapes import constant_tensor
from edge_compress.graph.walk import in_order, nodes_within, uses


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A tidy copy, with local functions written out. Raises InvalidModel when the graph has a cycle."""
    copy = onnx.ModelProto()
    copy.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    graph = copy.graph
    _replace_nodes(graph, in_order(list(graph.node)))
    _constants_to_initializers(graph)
    _drop_overridable(graph)
    _drop_dead_nodes(graph)
    _share_initializers(graph)
    _drop_unused_initializers(graph)
    return copy


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """A tensor in an initializer can be shared; one in a Constant node cannot."""
    kept = []
    for node in graph.node:
        tensor = constant_tensor(node)
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = node.output[0]
    _replace_nodes(graph, kept)


def _drop_overridable(graph: onnx.GraphProto) -> None:
    """Initializers listed as inputs are defaults a caller could override; runtimes then cannot fold them, and nobody does."""
    defaults = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in defaults]
    del graph.input[:]
    graph.input.extend(inputs)


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    needed = {item.name for item in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(uses(node))
    _replace_nodes(graph, kept[::-1])


def _share_initializers(graph: onnx.GraphProto) -> None:
    outputs = {item.name for item in graph.output}
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        _to_raw(tensor)
        if tensor.data_type == onnx.TensorProto.STRING or tensor.name in outputs:
            continue
        holder = first.setdefault((tensor.data_type, tuple(tensor.dims), tensor.raw_data), tensor.name)
        if holder != tensor.name:
            same[tensor.name] = holder
    for node in nodes_within(graph.node):
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)


def _to_raw(tensor: onnx.TensorProto) -> None:
    if tensor.data_type != onnx.TensorProto.STRING and not tensor.HasField("raw_data"):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Keep what is used, in the order of first use, so that the order does not tell how the model was made."""
    held = {item.name: item for item in graph.initializer}
    wanted = itertools.chain((name for node in graph.node for name in uses(node)), (item.name for item in graph.output))
    kept = [onnx.TensorProto.FromString(held[name].SerializeToString()) for name in dict.fromkeys(wanted) if name in held]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
