"""Standard nodes in place of onnxruntime's own (domain com.microsoft), as far as the shapes of what they make go.

Compressed and fused models are full of such operators, and onnx's inference stops at each. A stand-in makes tensors of the same
shape and type under the same names; it computes something else, and is only ever looked at. Operators that are not here stay
unknown, and so does what follows from them.

Source: onnxruntime, docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper

DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class StandIn:
    """Standard nodes in a node's place, and tensors that they read and the graph does not have."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[onnx.ValueInfoProto, ...] = ()


def stand_in(node: onnx.NodeProto, matrices: Collection[str] = ()) -> StandIn | None:
    """The stand-in of a node of com.microsoft; None for other domains, and for operators whose shapes are not known here.

    ``matrices`` names the constants of two axes.
    """
    if node.domain != DOMAIN or not node.input or not node.output:
        return None
    if node.op_type in _AS_STANDARD:
        standard, places = _AS_STANDARD[node.op_type]
        return _standard(node, standard, places)
    if node.op_type == "FusedMatMul":
        return _turned_product(node, node.input[-1] in matrices)
    made = _SPECIAL.get(node.op_type)
    return made(node) if made else None


def _standard(node: onnx.NodeProto, operator: str, places: Sequence[int]) -> StandIn | None:
    """The node under a standard name, with those of its inputs that decide the shape. None where channels come last."""
    if _attributes(node).get("channels_last") or max(places) >= len(node.input):
        return None
    copy = onnx.NodeProto(op_type=operator, output=node.output[:1], attribute=node.attribute)
    copy.input.extend(node.input[place] for place in places)
    return StandIn((copy,))


def _like_first(node: onnx.NodeProto) -> StandIn:
    return StandIn((helper.make_node("Identity", node.input[:1], node.output[:1]),))


def _product_of_bits(node: onnx.NodeProto) -> StandIn | None:
    """By a float matrix of (K, N) that nobody holds."""
    attributes = _attributes(node)
    if not {"K", "N"} <= set(attributes):
        return None
    weight = f"{node.output[0]}/weight"
    kind = helper.make_tensor_value_info(weight, TensorProto.FLOAT, [attributes["K"], attributes["N"]])
    return StandIn((helper.make_node("MatMul", [node.input[0], weight], node.output[:1]),), (kind,))


def _product_to_float(node: onnx.NodeProto) -> StandIn:
    between = f"{node.output[0]}/whole"
    product = helper.make_node("MatMul", node.input[:2], [between])
    return StandIn((product, helper.make_node("Cast", [between], node.output[:1], to=TensorProto.FLOAT)))


def _gemm_of_bytes(node: onnx.NodeProto) -> StandIn | None:
    """Of the type of the first, or floats where no scale of the result is given."""
    made = _standard(node, "Gemm", (0, 3))
    if made is None or (len(node.input) > 7 and node.input[7]):
        return made
    between = f"{node.output[0]}/whole"
    made.nodes[0].output[0] = between
    return StandIn((*made.nodes, helper.make_node("Cast", [between], node.output[:1], to=TensorProto.FLOAT)))


def _turned_product(node: onnx.NodeProto, by_matrix: bool) -> StandIn | None:
    attributes = _attributes(node)
    if attributes.get("transBatchA") or attributes.get("transBatchB"):
        return None
    left, right = ("ki" if attributes.get("transA") else "ik"), ("jk" if attributes.get("transB") else "kj")
    if (left, right) == ("ik", "kj"):
        return _standard(node, "MatMul", (0, 1))
    equation = f"...{left},{'' if by_matrix else '...'}{right}->...ij"
    return StandIn((helper.make_node("Einsum", node.input[:2], node.output[:1], equation=equation),))


def _concat(node: onnx.NodeProto) -> StandIn:
    """Scale and zero point of the result come first, then each tensor with its own."""
    return StandIn((helper.make_node("Concat", node.input[2::3], node.output[:1], axis=_attributes(node).get("axis", 1)),))


def _attention(node: onnx.NodeProto) -> StandIn | None:
    """Query, key and value by one matrix; what comes out is as wide as the last of them."""
    if "qkv_hidden_sizes" in _attributes(node) or len(node.input) < 2:
        return None
    between, *parts = (f"{node.output[0]}/{name}" for name in ("all", "query", "key"))
    product = helper.make_node("MatMul", node.input[:2], [between])
    return StandIn((product, helper.make_node("Split", [between], [*parts, node.output[0]], axis=2, num_outputs=3)))


def _separate_attention(node: onnx.NodeProto) -> StandIn | None:
    """As wide as the query, where key and value come as tensors of their own."""
    return _like_first(node) if len(node.input) > 2 and all(node.input[1:3]) else None


def _embedded(node: onnx.NodeProto) -> StandIn | None:
    return (
        StandIn((helper.make_node("Gather", [node.input[2], node.input[0]], node.output[:1]),)) if len(node.input) > 2 else None
    )


def _floats(node: onnx.NodeProto) -> StandIn:
    return StandIn((helper.make_node("Cast", node.input[:1], node.output[:1], to=TensorProto.FLOAT),))


_AS_STANDARD: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "FusedConv": ("Conv", (0, 1)),
    "FusedGemm": ("Gemm", (0, 1)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearMul": ("Mul", (0, 3)),
}
"""operator -> the standard one whose shape it has, and which of its inputs that takes"""
_SPECIAL: Mapping[str, Callable[[onnx.NodeProto], StandIn | None]] = {
    "Attention": _attention,
    "DequantizeLinear": _floats,
    "EmbedLayerNormalization": _embedded,
    "MatMulIntegerToFloat": _product_to_float,
    "MatMulNBits": _product_of_bits,
    "MultiHeadAttention": _separate_attention,
    "QGemm": _gemm_of_bytes,
    "QLinearConcat": _concat,
    **dict.fromkeys(("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "BiasSoftmax"), _like_first),
    **dict.fromkeys(("GroupNorm", "SkipGroupNorm", "RotaryEmbedding", "BiasAdd"), _like_first),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _like_first),
    **dict.fromkeys(("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"), _like_first),
}


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
