"""Shortcuts that take every other pixel and pad the channels, as the 1x1 convolutions that they are.

The shortcut without parameters of He et al. 2016 (arXiv:1512.03385, option A) comes out of exporters as a Slice for each axis and
a Pad. A strided 1x1 convolution with ones and zeros gives the same numbers in one pass instead of three, in integers too, and
pruning and training understand it. Larger ones stay as they are: there, moving numbers is cheaper than multiplying.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.shapes import TensorType, tensor_types
from edge_compress.graph.tidy import tidied

_MOST_MACS = 2_000_000
"""about what three passes over the numbers cost on the processors we measured"""
_FIRST_OPSET = 13

Constants = Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]


def convolved(model: onnx.ModelProto) -> onnx.ModelProto:
    """A tidy copy with the shortcuts rewritten; the model itself where it has none. ``model`` is tidy."""
    if not {"Slice", "Pad"} <= {node.op_type for node in model.graph.node} or _opset(model) < _FIRST_OPSET:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rewriter = _Rewriter(copy)
    found = [rewriter.rewrite(node) for node in copy.graph.node if node.op_type == "Pad"]
    return tidied(copy) if any(found) else model


class _Rewriter:
    """What must be known of a model to rewrite its shortcuts."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._types: Mapping[str, TensorType] = tensor_types(model)
        self._maker = {name: node for node in model.graph.node for name in node.output if name}
        self._stored: Constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self._told = {item.name for item in model.graph.output}

    def rewrite(self, pad: onnx.NodeProto) -> bool:
        """Turn a Pad and the Slices before it into a Conv in place; whether that could be done."""
        widths = self._channel_pads(pad)
        if widths is None:
            return False
        source, strides = pad.input[0], [1, 1]
        while (steps := self._steps(source)) is not None:
            strides = [have * more for have, more in zip(strides, steps, strict=True)]
            source = self._maker[source].input[0]
        shape, made = self._shape(source), self._shape(pad.output[0])
        if max(strides) == 1 or shape is None or made is None or math.prod(made) * shape[1] > _MOST_MACS:
            return False
        self._convolve(pad, source, shape[1], widths, strides)
        return True

    def _convolve(self, pad: onnx.NodeProto, source: str, channels: int, widths: tuple[int, int], strides: list[int]) -> None:
        weight = np.zeros((sum(widths) + channels, channels, 1, 1), np.float32)
        weight[widths[0] + np.arange(channels), np.arange(channels)] = 1
        name = f"{pad.output[0]}_picked"
        self._graph.initializer.append(numpy_helper.from_array(weight, name))
        conv = helper.make_node("Conv", [source, name], [pad.output[0]], name=pad.name, kernel_shape=[1, 1], strides=strides)
        pad.CopyFrom(conv)

    def _channel_pads(self, pad: onnx.NodeProto) -> tuple[int, int] | None:
        """Channels of zeros before and behind, for a Pad that adds nothing else."""
        shape, pads = self._shape(pad.input[0]), self._stored.get(pad.input[1])
        mode = next((item.s.decode() for item in pad.attribute if item.name == "mode"), "constant")
        value = self._stored.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
        if shape is None or len(shape) != 4 or pads is None or value is None or mode != "constant" or value.any():
            return None
        if self._types[pad.input[0]].elem_type != TensorProto.FLOAT or len(pad.input) > 3 or pads.size != 8:
            return None
        front, back = int(pads[1]), int(pads[5])
        return (front, back) if min(front, back) >= 0 and np.count_nonzero(pads) == (front > 0) + (back > 0) else None

    def _steps(self, name: str) -> tuple[int, int] | None:
        """Steps along height and width of the Slice that makes a tensor, where that is all it does and nobody else reads it."""
        node, uses = self._maker.get(name), sum(name in other.input for other in self._graph.node)
        if node is None or node.op_type != "Slice" or uses != 1 or name in self._told or len(node.input) != 5:
            return None
        shape, parts = self._shape(node.input[0]), [self._stored.get(item) for item in node.input[1:]]
        if shape is None or len(shape) != 4 or any(part is None for part in parts):
            return None
        strides = {2: 1, 3: 1}
        for start, end, axis, step in zip(*(part.tolist() for part in parts if part is not None), strict=True):
            if start != 0 or axis % 4 not in strides or end < shape[axis % 4] or step < 1:
                return None
            strides[axis % 4] = step
        return strides[2], strides[3]

    def _shape(self, name: str) -> tuple[int, ...] | None:
        return self._types[name].shape if name in self._types else None


def _opset(model: onnx.ModelProto) -> int:
    return max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1)
