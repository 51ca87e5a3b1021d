"""A model as the importer reads it: nodes in order, stored tensors by name, what is used where. No torch here.

Equal tensors are not merged: two biases that happen to be zero are two parameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from edge_compress.graph.shapes import constant_tensor
from edge_compress.graph.walk import in_order, uses

Array = np.ndarray[Any, Any]

STANDARD = ("", "ai.onnx")
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True)
class Node:
    """One node; ``attributes`` as Python values, texts decoded."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    domain: str
    proto: onnx.NodeProto


@dataclass(frozen=True)
class Source:
    """The main graph. ``uses`` tells of each tensor which (node, input position) read it; outputs of the graph count as none."""

    nodes: tuple[Node, ...]
    stored: Mapping[str, onnx.TensorProto]
    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[str, ...]
    opset: int
    uses: Mapping[str, Sequence[tuple[Node, int]]] = field(default_factory=dict)

    def sole_user(self, name: str) -> Node | None:
        """The only node that reads this tensor, or None when there are more or it is an output of the graph."""
        readers = self.uses.get(name, ())
        return readers[0][0] if len(readers) == 1 and name not in self.outputs else None


def read(model: onnx.ModelProto) -> Source:
    """The model's graph with local functions written out, Constant nodes as stored tensors and dead nodes left out."""
    graph = (inliner.inline_local_functions(model) if model.functions else model).graph
    stored = {item.name: item for item in graph.initializer}
    nodes = []
    for proto in _living(graph):
        tensor = constant_tensor(proto)
        if tensor is None:
            nodes.append(_node(proto))
        else:
            stored[proto.output[0]] = tensor
    readers: dict[str, list[tuple[Node, int]]] = defaultdict(list)
    for node in nodes:
        for position, name in enumerate(node.inputs):
            readers[name].append((node, position))
    opset = next((item.version for item in model.opset_import if item.domain in STANDARD), 1)
    inputs = tuple(item for item in graph.input if item.name not in stored)
    return Source(tuple(nodes), stored, inputs, tuple(item.name for item in graph.output), opset, dict(readers))


def values(tensor: onnx.TensorProto) -> Array:
    """The tensor's values, as an array that owns its memory and may be written."""
    return np.array(numpy_helper.to_array(tensor))


def objection(node: Node) -> str | None:
    """Why a node could not be taken whatever its operator does, or None."""
    if node.domain not in STANDARD:
        return f"the operator is of the domain {node.domain!r}; only standard ones are known"
    if node.op in _QUANTIZERS or "Integer" in node.op or node.op.startswith("QLinear"):
        return "the model is quantised already; start from the float model"
    if any(isinstance(value, onnx.GraphProto) for value in node.attributes.values()):
        return "control flow has no trainable form; export the model with its branches or loops written out"
    return None


def _living(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    needed = {item.name for item in graph.output}
    kept = []
    for node in reversed(in_order(list(graph.node))):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(uses(node))
    return kept[::-1]


def _node(proto: onnx.NodeProto) -> Node:
    attributes = {item.name: _plain(helper.get_attribute_value(item)) for item in proto.attribute}
    name = proto.name or f"{proto.op_type}_{proto.output[0]}"
    outputs = tuple(proto.output)
    while outputs and not outputs[-1]:
        outputs = outputs[:-1]
    return Node(proto.op_type, name, tuple(proto.input), outputs, attributes, proto.domain, proto)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
