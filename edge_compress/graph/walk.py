"""Ways through a graph: nodes with those of subgraphs, the tensors it holds, the names a node really uses, and a sound order.

Nothing here changes a model or judges it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import onnx

from edge_compress.errors import InvalidModel


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies a control-flow node holds, one level down."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes_within(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs at any depth included."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from nodes_within(graph.node)


def uses(node: onnx.NodeProto) -> Iterator[str]:
    """Names from the node's own scope that it reads: its inputs, and what its subgraphs take from outside."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        yield from outer_names(graph)


def outer_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Names a subgraph reads without defining them."""
    own = {item.name for item in graph.input} | {item.name for item in graph.initializer}
    own.update(_sparse_name(item) for item in graph.sparse_initializer)
    for node in graph.node:
        yield from (name for name in uses(node) if name not in own)
        own.update(node.output)
    yield from (item.name for item in graph.output if item.name not in own)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the graph: initializers and attributes of nodes, those of subgraphs included."""
    yield from graph.initializer
    yield from _dense(graph.sparse_initializer)
    yield from node_tensors(graph.node)


def node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Every tensor in the attributes of these nodes, those of subgraphs included."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from _dense([attribute.sparse_tensor])
            yield from _dense(attribute.sparse_tensors)
        for body in subgraphs(node):
            yield from tensors(body)


def _dense(items: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for item in items:
        yield from (item.values, item.indices)


def _sparse_name(item: onnx.SparseTensorProto) -> str:
    values: onnx.TensorProto = item.values
    return values.name


def in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes with each after those it depends on, otherwise as they stood. Raises InvalidModel on a cycle."""
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in uses(node) if name in maker} for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(needs):
        for other in needed:
            users[other].append(index)
    waiting = [len(needed) for needed in needs]
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users[index]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, user)
    if len(order) != len(nodes):
        stuck = next(node for node, count in zip(nodes, waiting, strict=True) if count)
        raise InvalidModel(f"the graph has a cycle through {stuck.name or stuck.op_type!r}")
    return [nodes[index] for index in order]
