"""Writes ONNX graphs of any opset from 9 on: an operator is asked for by what it does, and takes the form its opset has.

Which operators make a network is left to ``families``; nothing here is random but the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

SAMPLES = 16
CLASSES = 5


@dataclass(frozen=True)
class Network:
    """A model and samples for it by input name."""

    model: onnx.ModelProto
    samples: dict[str, Array]


@dataclass
class Builder:
    """A graph under construction. ``draw`` decides weights, and which of them lie in Constant nodes."""

    draw: np.random.Generator
    opset: int
    in_nodes: float = 0.0
    """share of the constants that are Constant nodes"""
    shared: float = 0.0
    """share of the weights that are those of an earlier layer, where one has their shape"""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    weights: dict[tuple[int, ...], str] = field(default_factory=dict)
    prefix: str = ""

    def several(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """A node with ``count`` outputs."""
        names = [f"{self.prefix}t{len(self.nodes)}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{self.prefix}n{len(self.nodes)}", **attributes))
        return names

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output."""
        return self.several(op, inputs, 1, **attributes)[0]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype), "")
        if self.draw.random() < self.in_nodes:
            return self.add("Constant", value=tensor)
        tensor.name = f"{self.prefix}c{len(self.constants)}"
        self.constants.append(tensor)
        return tensor.name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def weight(self, *shape: int, fan_in: int) -> str:
        """Weights of unlike channels that keep activations at their size."""
        if shape in self.weights and self.draw.random() < self.shared:
            return self.weights[shape]
        spread = self.draw.uniform(0.4, 1.6, (shape[0], *[1] * (len(shape) - 1)))
        self.weights[shape] = self.constant(self.draw.standard_normal(shape) * spread / np.sqrt(fan_in))
        return self.weights[shape]

    def vector(self, length: int, low: float = -0.5, high: float = 0.5) -> str:
        return self.constant(self.draw.uniform(low, high, length))

    # -- operators whose form changed with the opset -----------------------------------------------------------------------

    def clip(self, x: str, low: float, high: float) -> str:
        if self.opset < 11:
            return self.add("Clip", x, min=low, max=high)
        return self.add("Clip", x, self.constant(low), self.constant(high))

    def _axes(self, op: str, since: int, x: str, axes: Sequence[int], **attributes: Any) -> str:
        if self.opset < since:
            return self.add(op, x, axes=list(axes), **attributes)
        return self.add(op, x, self.ints(*axes), **attributes)

    def squeeze(self, x: str, *axes: int) -> str:
        return self._axes("Squeeze", 13, x, axes)

    def unsqueeze(self, x: str, *axes: int) -> str:
        return self._axes("Unsqueeze", 13, x, axes)

    def mean(self, x: str, *axes: int, keepdims: int = 1) -> str:
        return self._axes("ReduceMean", 18, x, axes, keepdims=keepdims)

    def slice(self, x: str, start: int, end: int, axis: int) -> str:
        if self.opset < 10:
            return self.add("Slice", x, starts=[start], ends=[end], axes=[axis])
        return self.add("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def pad(self, x: str, pads: Sequence[int]) -> str:
        if self.opset < 11:
            return self.add("Pad", x, pads=list(pads))
        return self.add("Pad", x, self.ints(*pads))

    def split(self, x: str, parts: Sequence[int], axis: int) -> list[str]:
        if self.opset < 13:
            return self.several("Split", [x], len(parts), axis=axis, split=list(parts))
        return self.several("Split", [x, self.ints(*parts)], len(parts), axis=axis)

    def doubled(self, x: str) -> str:
        """Twice the height and width."""
        scales = self.constant([1, 1, 2, 2])
        if self.opset < 10:
            return self.add("Upsample", x, scales)
        if self.opset < 11:
            return self.add("Resize", x, scales)
        attributes = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
        region = self.constant(np.zeros(0)) if self.opset < 13 else ""
        return self.add("Resize", x, region, scales, **attributes)

    def softmax(self, x: str) -> str:
        """Over the last axis. Before opset 13 all axes from there on were one; the last is the last either way."""
        return self.add("Softmax", x, axis=-1 if self.opset >= 11 else 2)

    def gelu(self, x: str) -> str:
        if self.opset >= 20 and self.draw.random() < 0.5:
            return self.add("Gelu", x)
        share = self.add("Add", self.add("Erf", self.add("Div", x, self.constant(np.sqrt(2)))), self.constant(1.0))
        return self.add("Mul", self.add("Mul", x, share), self.constant(0.5))

    def layer_norm(self, x: str, width: int) -> str:
        scale, bias = self.vector(width, 0.5, 2.0), self.vector(width)
        if self.opset >= 17 and self.draw.random() < 0.7:
            return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)
        centred = self.add("Sub", x, self.mean(x, -1))
        spread = self.mean(self.add("Mul", centred, centred), -1)
        deviation = self.add("Sqrt", self.add("Add", spread, self.constant(1e-5)))
        return self.add("Add", self.add("Mul", self.add("Div", centred, deviation), scale), bias)

    def linear(self, x: str, wide: int, out: int, *, flat: bool) -> str:
        """A dense layer: Gemm where the input has two axes (in one of its two layouts), else MatMul and Add."""
        if not flat or self.draw.random() < 0.3:
            return self.add("Add", self.add("MatMul", x, self.weight(wide, out, fan_in=wide)), self.vector(out))
        if self.draw.random() < 0.5:
            return self.add("Gemm", x, self.weight(out, wide, fan_in=wide), self.vector(out), transB=1)
        return self.add("Gemm", x, self.weight(wide, out, fan_in=wide), self.vector(out))


def body(builder: Builder, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> Any:
    """What the builder holds as the subgraph of a control-flow node."""
    return helper.make_graph(builder.nodes, name, list(inputs), list(outputs), builder.constants)


def value(name: str, shape: Sequence[Any] | None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, None if shape is None else list(shape))


def model_of(builder: Builder, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """The whole model, as an exporter of that opset's time would write it."""
    graph = helper.make_graph(builder.nodes, "random", list(inputs), list(outputs), builder.constants)
    ir = 4 if builder.opset < 11 else 8 if builder.opset < 19 else 10
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", builder.opset)], ir_version=ir)


def normal(b: Builder, *shape: int) -> Array:
    """Samples of that shape."""
    return b.draw.standard_normal((SAMPLES, *shape)).astype(np.float32)
