"""Multiply-accumulates of one node from the shapes of what it reads and writes; 0 where those are unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx

Shape = tuple[int, ...]
ShapeOf = Callable[[str], Shape | None]

_CONV = {"Conv": (0, 1), "FusedConv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3), "ConvTranspose": (0, 1)}
_PRODUCT = {
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "DynamicQuantizeMatMul": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "QLinearMatMul": (0, 3),
    "QGemm": (0, 3),
}
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})


def node_macs(node: onnx.NodeProto, shape_of: ShapeOf) -> int:
    """MACs of the node for the shapes given; additions, activations and pooling count as none."""
    if node.op_type in _CONV:
        return _conv(node, shape_of)
    if node.op_type in _PRODUCT:
        return _product(node, shape_of)
    if node.op_type in _RECURRENT:
        return _recurrent(node, shape_of)
    if node.op_type == "MatMulNBits":
        return _size(shape_of(node.output[0])) * _ints(node).get("K", 0)
    if node.op_type in ("Attention", "MultiHeadAttention"):
        return _attention(node, shape_of)
    if node.op_type == "Einsum":
        return _einsum(node, shape_of)
    return 0


def _conv(node: onnx.NodeProto, shape_of: ShapeOf) -> int:
    data, weight = (shape_of(node.input[index]) for index in _CONV[node.op_type])
    if not weight:
        return 0
    # Each element of the output of a convolution takes one weight row; a transposed one spreads each element of its input.
    touched = data if node.op_type == "ConvTranspose" else shape_of(node.output[0])
    return _size(touched) * math.prod(weight[1:])


def _product(node: onnx.NodeProto, shape_of: ShapeOf) -> int:
    left = shape_of(node.input[_PRODUCT[node.op_type][0]])
    if not left:
        return 0
    turned = bool(_ints(node).get("transA", 0)) and len(left) > 1
    return _size(shape_of(node.output[0])) * left[-2 if turned else -1]


def _recurrent(node: onnx.NodeProto, shape_of: ShapeOf) -> int:
    """Every step multiplies the input by W and the state by R; gates' own arithmetic is left out."""
    data, weight, recurrence = (shape_of(name) for name in node.input[:3])
    return _size(data[:2] if data else None) * (_size(weight) + _size(recurrence))


def _attention(node: onnx.NodeProto, shape_of: ShapeOf) -> int:
    """Queries by keys and weights by values; where one matrix makes all three, its product as well."""
    made, first, second = (shape_of(name) for name in (node.output[0], *node.input[:2]))
    if not made or not first or not second or len(first) != 3 or len(made) != 3:
        return 0
    fused = node.op_type == "Attention"
    keys = first[1] if fused else second[-2]
    return (_size(first) * second[-1] if fused else 0) + 2 * _size(made) * keys


def _einsum(node: onnx.NodeProto, shape_of: ShapeOf) -> int:
    equation = next((item.s.decode() for item in node.attribute if item.name == "equation"), "").replace(" ", "")
    terms, shapes = equation.split("->")[0].split(","), [shape_of(name) for name in node.input]
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=False):
        if shape is None or len(shape) != len(term):
            return 0
        sizes |= dict(zip(term, shape, strict=True))
    return math.prod(sizes.values()) if len(shapes) > 1 else 0


def _ints(node: onnx.NodeProto) -> Mapping[str, int]:
    return {item.name: item.i for item in node.attribute}


def _size(shape: Shape | None) -> int:
    return 0 if shape is None else math.prod(shape)
