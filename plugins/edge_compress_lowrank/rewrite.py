"""Writes a layer's factors into the graph in its place. Leaves which factors to ``ranks`` and ``factors``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_compress_lowrank.factors import Split
from edge_compress_lowrank.layers import Layer
from edge_compress_lowrank.ways import Array, Factor


def rewrite(model: onnx.ModelProto, splits: Mapping[str, tuple[Layer, Split]]) -> None:
    """Replace layers in place; ``splits`` by the name of the tensor that the layer makes."""
    names = _Names(model.graph)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.output[0] in splits:
            nodes += _Writer(model.graph, names, *splits[node.output[0]]).nodes()
        else:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


class _Names:
    """Names that the graph does not use yet."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
        self._taken |= {item.name for field in (graph.initializer, graph.input, graph.output) for item in field}

    def fresh(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name


class _Writer:
    """The nodes of one split."""

    def __init__(self, graph: onnx.GraphProto, names: _Names, layer: Layer, split: Split) -> None:
        self._graph, self._names, self._layer, self._split = graph, names, layer, split

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """First to last; the last makes the tensor that the layer made and keeps its name."""
        name, entry = self._layer.name, self._layer.node.input[0]
        *fronts, last = self._split.factors
        for number, factor in enumerate(fronts):
            result = self._names.fresh(f"{name}.{number}")
            yield self._node(factor, [entry, self._weight(factor, number)], result, self._names.fresh(f"{name}/{number}"))
            entry = result
        yield self._last(last, entry)

    def _last(self, factor: Factor, entry: str) -> onnx.NodeProto:
        node, number = self._layer.node, len(self._split.factors) - 1
        if node.op_type == "Gemm":
            inputs = [entry, self._store(factor.weight, number), *self._bias()]
            return helper.make_node("Gemm", inputs, list(node.output), name=node.name, transB=1)
        return self._node(factor, [entry, self._weight(factor, number), *self._bias()], node.output[0], node.name)

    def _node(self, factor: Factor, inputs: list[str], output: str, name: str) -> onnx.NodeProto:
        if factor.window is None:
            return helper.make_node("MatMul", inputs, [output], name=name)
        return helper.make_node("Conv", inputs, [output], name=name, **factor.window.attributes())

    def _weight(self, factor: Factor, number: int) -> str:
        return self._store(factor.weight if factor.window else factor.weight.T, number)

    def _store(self, value: Array, number: int) -> str:
        name = self._names.fresh(f"{self._layer.name}.w{number}")
        tensor = numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name)
        self._graph.initializer.append(tensor)
        return name

    def _bias(self) -> list[str]:
        bias = self._split.bias
        return [] if bias is None else [self._store(bias, len(self._split.factors))]
