"""What each operator can do with integers, as onnxruntime's processor kernels do it: one table, one line an operator.

MULTIPLY  does its work in integers: both operands are quantised and the sum is kept in 32 bits.
JOIN      works on integers when everything it reads already is; otherwise it stays float.
MOVE      only moves, picks or bounds values: it runs on the stored integers themselves and keeps their grid.

An operator that is not here stays float. Leaves which nodes take part to ``placement``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edge_compress_quantize.wiring import Wiring, attribute

Array = np.ndarray[Any, Any]


class Role(enum.Enum):
    """How an operator takes part (see above)."""

    MULTIPLY = "multiply"
    JOIN = "join"
    MOVE = "move"


@dataclass(frozen=True, eq=False)
class Multiply:
    """The operands of one Conv, Gemm or MatMul that can run in integers."""

    weights: Array
    """float32, as stored"""
    axis: int
    """the axis of ``weights`` with one entry an output channel"""
    bias: Array | None
    """float32, one entry an output channel"""
    integer_output: bool
    """its kernel gives integers only; otherwise a float result costs nothing extra"""


def role(node: onnx.NodeProto, wiring: Wiring) -> Role | None:
    """The role a node can play, None where it must stay float."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in _OPERANDS:
        return Role.MULTIPLY if operands(node, wiring) else None
    if node.op_type in _JOIN:
        return Role.JOIN if _JOIN[node.op_type](node, wiring) else None
    if node.op_type in _MOVE:
        return Role.MOVE if _MOVE[node.op_type](node, wiring) else None
    return None


def operands(node: onnx.NodeProto, wiring: Wiring) -> Multiply | None:
    """What a multiplying node multiplies, None when its form has no integer kernel."""
    found = _OPERANDS.get(node.op_type)
    return found(node, wiring) if found and node.input[0] not in wiring.constants else None


def bounds(node: onnx.NodeProto, wiring: Wiring) -> tuple[float, float] | None:
    """Lower and upper limit that a Relu or Clip sets; None for every other operator or limits that are not constant."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    if node.op_type != "Clip":
        return None
    limits = [-float("inf"), float("inf")]
    for index, name in enumerate(list(node.input)[1:3]):
        if name:
            value = wiring.float_constant(name)
            if value is None or value.size != 1:
                return None
            limits[index] = float(value.reshape(-1)[0])
    return (limits[0], limits[1]) if limits[0] <= limits[1] else None


def moved_inputs(node: onnx.NodeProto) -> list[str]:
    """The data a MOVE or JOIN node reads, without shapes, axes and limits."""
    count = len(node.input) if node.op_type in ("Concat", "Add", "Mul") else 1
    return [name for name in list(node.input)[:count] if name]


def _conv(node: onnx.NodeProto, wiring: Wiring) -> Multiply | None:
    weights = wiring.float_constant(node.input[1])
    if weights is None or weights.ndim < 3:
        return None
    bias, known = _vector(node, 2, weights.shape[0], wiring)
    return Multiply(weights, 0, bias, integer_output=True) if known else None


def _gemm(node: onnx.NodeProto, wiring: Wiring) -> Multiply | None:
    weights = wiring.float_constant(node.input[1])
    plain = attribute(node, "transA", 0) == 0 and attribute(node, "alpha", 1.0) == 1.0
    if weights is None or weights.ndim != 2 or not plain:
        return None
    axis = 0 if attribute(node, "transB", 0) else 1
    bias, known = _vector(node, 2, weights.shape[axis], wiring)
    if bias is not None:
        bias = bias * np.float32(attribute(node, "beta", 1.0))
    return Multiply(weights, axis, bias, integer_output=False) if known else None


def _matmul(node: onnx.NodeProto, wiring: Wiring) -> Multiply | None:
    """Products of two activations stay float: they are small, and requantising twice costs more than it saves."""
    weights = wiring.float_constant(node.input[1])
    if weights is None or weights.ndim != 2:
        return None
    return Multiply(weights, 1, None, integer_output=False)


def _vector(node: onnx.NodeProto, index: int, length: int, wiring: Wiring) -> tuple[Array | None, bool]:
    """A bias as ``length`` numbers, and whether it is one (or absent)."""
    if len(node.input) <= index or not node.input[index]:
        return None, True
    value = wiring.float_constant(node.input[index])
    if value is None or (value.size != 1 and (value.shape[-1], value.size) != (length, length)):
        return None, False
    return np.broadcast_to(value.reshape(-1), (length,)).copy(), True


def _always(node: onnx.NodeProto, wiring: Wiring) -> bool:
    return True


def _pairs(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Constants among the operands must be float32 too; two constants would have been folded."""
    return all(name not in wiring.constants or wiring.float_constant(name) is not None for name in node.input)


def _pool(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """onnxruntime's integer average pooling knows neither dilations nor ceiling mode."""
    return not attribute(node, "ceil_mode", 0) and set(attribute(node, "dilations", [1])) == {1}


def _max_pool(node: onnx.NodeProto, wiring: Wiring) -> bool:
    return len(node.output) == 1


def _bounded(node: onnx.NodeProto, wiring: Wiring) -> bool:
    return bounds(node, wiring) is not None


def _pad(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Padding with a number must be zero, which every grid holds exactly."""
    if attribute(node, "mode", "constant") != "constant" or len(node.input) < 3 or not node.input[2]:
        return True
    value = wiring.float_constant(node.input[2])
    return value is not None and not value.any()


Check = Callable[[onnx.NodeProto, Wiring], bool]

_OPERANDS: dict[str, Callable[[onnx.NodeProto, Wiring], Multiply | None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
_JOIN: dict[str, Check] = {
    "Add": _pairs,
    "Mul": _pairs,
    "Concat": _pairs,
    "AveragePool": _pool,
    "GlobalAveragePool": _always,
    "Sigmoid": _always,
    "LeakyRelu": _always,
}
_MOVE: dict[str, Check] = {
    "Clip": _bounded,
    "Relu": _always,
    "MaxPool": _max_pool,
    "Pad": _pad,
    **dict.fromkeys(("Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"), _always),
}
