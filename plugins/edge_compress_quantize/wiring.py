"""Who makes and who reads each tensor of a graph, its constants, and fresh names. No decision about precision is made here."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edge_compress.graph.walk import outer_names, subgraphs

Array = np.ndarray[Any, Any]


class Wiring:
    """An index over a graph whose constants are all initializers (see ``canonical``). Stale once the graph is edited."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.inputs = [item.name for item in graph.input]
        self.outputs = {item.name for item in graph.output}
        self.constants = {item.name: item for item in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.captured: set[str] = set()
        """tensors that a subgraph (If, Loop, Scan) reads from outside"""
        for node in graph.node:
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers[name].append(node)
            self.captured.update(captured_by(node))

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor; None where there are several, none, or readers outside the node list."""
        readers = self.readers.get(name, [])
        if len(readers) != 1 or name in self.outputs or name in self.captured:
            return None
        return readers[0]

    def constant(self, name: str) -> Array | None:
        """The value of a constant tensor, None for anything else."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def float_constant(self, name: str) -> Array | None:
        """The value of a float32 constant, None for anything else; its dtype is looked at before it is read."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        return numpy_helper.to_array(tensor)


class Names:
    """Short names that a graph does not use yet, in a fixed order (artifacts carry every name)."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = set(all_names(graph))
        self._next: dict[str, int] = defaultdict(int)

    def fresh(self, prefix: str) -> str:
        """``prefix`` and a number."""
        while True:
            name = f"{prefix}{self._next[prefix]}"
            self._next[prefix] += 1
            if name not in self._taken:
                self._taken.add(name)
                return name


def known_names(model: onnx.ModelProto, names: Collection[str]) -> frozenset[str]:
    """``names`` as a set. Raises ValueError for the first that is neither a node's nor that of a tensor a node makes."""
    known = {name for node in model.graph.node for name in (node.name, *node.output)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"exclude: read {name!r}, expected the name of a node or of a tensor that a node makes{hint}")
    return frozenset(names)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or ``default``; text comes as str."""
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def captured_by(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that the subgraphs of a node (If, Loop, Scan) read from outside."""
    for graph in subgraphs(node):
        yield from outer_names(graph)


def all_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every node and tensor name in a graph and in the graphs inside it."""
    for values in (graph.input, graph.output, graph.value_info):
        yield from (item.name for item in values)
    yield from (item.name for item in graph.initializer)
    for node in graph.node:
        yield node.name
        yield from (*node.input, *node.output)
        for inner in subgraphs(node):
            yield from all_names(inner)


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove initializers that nothing reads."""
    used = {name for node in graph.node for name in (*node.input, *captured_by(node))}
    used |= {item.name for item in graph.output}
    replace(graph.initializer, [item for item in graph.initializer if item.name in used])


def replace(field: Any, items: Iterable[Any]) -> None:
    """Set a repeated protobuf field to ``items``."""
    kept = list(items)
    del field[:]
    field.extend(kept)
