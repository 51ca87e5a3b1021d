"""Writes a float32 graph as float16 where that is sound: which nodes, and the casts at the edges.

A node runs in half precision when its operator has an exact float16 form, all its float operands are tensors of known type or
constants that fit, and its results were not seen to come near the largest half (65504). Reductions and normalisations
stay float32, as do operators that are not listed. Casts are placed once for each tensor and precision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress_quantize.wiring import Names, Wiring, drop_unused_constants, replace

Array = np.ndarray[Any, Any]

LARGEST = 65504.0
_SMALLEST = 2.0**-24

_ALL = frozenset(
    """Add AveragePool BatchNormalization Clip Concat Conv ConvTranspose Div Elu Gemm GlobalAveragePool GlobalMaxPool HardSigmoid
    HardSwish LeakyRelu MatMul MaxPool Mul PRelu Relu Sigmoid Sub Tanh""".split()  # noqa: SIM905  # a table reads better as words
)
"""every operand and result has the one float type"""
_FIRST = frozenset("Flatten Gather Identity Reshape Slice Split Squeeze Transpose Unsqueeze".split())  # noqa: SIM905  # as above
"""only the first operand has it"""


def float_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX data type of every tensor whose type can be inferred."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.value_info, *graph.output)}
    return {**known, **{item.name: item.data_type for item in graph.initializer}}


def half_nodes(wiring: Wiring, types: Mapping[str, int], exclude: Collection[str] = ()) -> set[str]:
    """First outputs of the nodes that can run in half precision. ``exclude`` holds node and tensor names."""
    found = set()
    for node in wiring.graph.node:
        if node.name not in exclude and not set(node.output) & set(exclude) and _fits(node, wiring, types):
            found.add(node.output[0])
    return found


def convert(graph: onnx.GraphProto, wiring: Wiring, nodes: Collection[str], types: Mapping[str, int]) -> None:
    """Edit ``graph`` in place so that ``nodes`` run in half precision; inputs and outputs keep their types."""
    writer = _Writer(graph, wiring, nodes, types)
    for node in graph.node:
        writer.write(node)
    replace(graph.node, writer.nodes)
    graph.initializer.extend(writer.constants)
    drop_unused_constants(graph)


def _fits(node: onnx.NodeProto, wiring: Wiring, types: Mapping[str, int]) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type not in _ALL | _FIRST:
        return False
    names = [name for name in (*_floats(node), *node.output) if name]
    if node.op_type == "MaxPool" and len(node.output) > 1:
        return False
    if any(types.get(name) != TensorProto.FLOAT for name in names):
        return False
    constants = (wiring.float_constant(name) for name in names if name in wiring.constants)
    return all(value is not None and _representable(value) for value in constants)


def _floats(node: onnx.NodeProto) -> list[str]:
    return list(node.input[:1] if node.op_type in _FIRST else node.input)


def _representable(value: Array) -> bool:
    """Nothing overflows, and what vanishes is not all there was (a lone epsilon)."""
    size = np.abs(value)
    if value.size == 0 or not np.isfinite(size).all() or size.max() > LARGEST:
        return value.size == 0
    return bool(size.max() == 0 or size.max() >= _SMALLEST)


class _Writer:
    """Builds the new list of nodes; each float tensor exists in the precisions that somebody reads."""

    def __init__(self, graph: onnx.GraphProto, wiring: Wiring, nodes: Collection[str], types: Mapping[str, int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._wiring, self._half, self._types = wiring, nodes, types
        self._names = Names(graph)
        self._kept = wiring.outputs | wiring.captured
        self._as_half: dict[str, str] = {}
        self._as_single: dict[str, str] = {}

    def write(self, node: onnx.NodeProto) -> None:
        """Append a node in its precision, with the casts it needs before it."""
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        if node.output[0] not in self._half:
            for index, name in enumerate(node.input):
                changed.input[index] = self._single(name)
            self.nodes.append(changed)
            return
        for index, name in enumerate(_floats(node)):
            changed.input[index] = self._halved(name) if name else ""
        for index, name in enumerate(filter(None, node.output)):
            changed.output[index] = self._as_half[name] = self._names.fresh("h")
        self.nodes.append(changed)
        for name in node.output:
            if name in self._kept:
                self._single(name)

    def _halved(self, name: str) -> str:
        if name not in self._as_half:
            self._as_half[name] = self._names.fresh("h")
            value = self._wiring.float_constant(name)
            if value is not None:
                self.constants.append(numpy_helper.from_array(value.astype(np.float16), self._as_half[name]))
            else:
                self._cast(name, self._as_half[name], TensorProto.FLOAT16)
        return self._as_half[name]

    def _single(self, name: str) -> str:
        """The float32 name of a tensor; made from the half where only that exists."""
        maker = self._wiring.producer.get(name)
        if maker is None or maker.output[0] not in self._half:
            return name
        if name not in self._as_single:
            self._as_single[name] = name
            self._cast(self._as_half[name], name, TensorProto.FLOAT)
        return name

    def _cast(self, source: str, target: str, to: int) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [target], to=to))
