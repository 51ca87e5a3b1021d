"""Integer convolutions over a number of channels that onnxruntime's kernels do not like: channels of nothing are added to fours.

MLAS reads the channels of integer inputs four at a time; an image of three goes a slower way, twice as slow for a first layer. A
channel of nothing, against weights of nothing, changes no answer. Only the target knows this, so only its file has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.shapes import TensorType, tensor_types

_LANES = 4
_MOST_CHANNELS = 16
"""with more, what is left over costs little"""
_FIRST_OPSET = 13
"""of Pad on bytes with its widths as an input, and of scales for each channel"""


def fill_lanes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which such convolutions read a multiple of four channels; the model itself where there are none.

    ``model`` is tidy and in the form of QuantizeLinear and DequantizeLinear pairs around float operators.
    """
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1)
    if opset < _FIRST_OPSET or not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    filler = _Filler(copy)
    nodes = [item for node in copy.graph.node for item in (*filler.before(node), node)]
    if len(nodes) == len(copy.graph.node):
        return model
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


class _Filler:
    """What must be known of a model to fill its lanes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._types: Mapping[str, TensorType] = tensor_types(model)
        self._maker = {name: node for node in model.graph.node for name in node.output if name}
        self._stored = {item.name: item for item in model.graph.initializer}

    def before(self, conv: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that must come before a convolution, which then reads from them; empty where it is well as it is."""
        if conv.op_type != "Conv" or _integer(conv, "group", 1) != 1:
            return []
        data, weight = (self._dequantize(name) for name in conv.input[:2])
        if data is None or weight is None or weight.input[0] not in self._stored:
            return []
        shape = tuple(self._stored[weight.input[0]].dims)
        missing = -shape[1] % _LANES
        if not missing or shape[1] > _MOST_CHANNELS or not self._plain(data, weight):
            return []
        return self._filled(conv, data, weight, missing)

    def _filled(self, conv: onnx.NodeProto, data: onnx.NodeProto, weight: onnx.NodeProto, missing: int) -> list[onnx.NodeProto]:
        rank = len(self._stored[weight.input[0]].dims)
        name, widths = f"{conv.output[0]}_lanes", [0] * (2 * rank)
        widths[rank + 1] = missing
        self._store(f"{name}_widths", np.array(widths, np.int64))
        self._store(f"{name}_weight", self._widened(weight, missing))
        more = onnx.NodeProto.FromString(weight.SerializeToString())
        more.input[0], more.output[0], more.name = f"{name}_weight", f"{name}_weights", ""
        read = onnx.NodeProto.FromString(data.SerializeToString())
        read.input[0], read.output[0], read.name = name, f"{name}_read", ""
        conv.input[0], conv.input[1] = read.output[0], more.output[0]
        return [helper.make_node("Pad", [data.input[0], f"{name}_widths"], [name]), read, more]

    def _widened(self, weight: onnx.NodeProto, missing: int) -> np.ndarray[Any, Any]:
        """The stored weights with channels of their zero point, which stands for nothing, added behind."""
        values = numpy_helper.to_array(self._stored[weight.input[0]])
        zero = numpy_helper.to_array(self._stored[weight.input[2]]) if len(weight.input) > 2 and weight.input[2] else np.int8(0)
        shape = (len(values), missing, *values.shape[2:])
        behind = np.broadcast_to(np.reshape(zero, (-1, *[1] * (values.ndim - 1))).astype(values.dtype), shape)
        return np.concatenate([values, behind], axis=1)

    def _plain(self, data: onnx.NodeProto, weight: onnx.NodeProto) -> bool:
        """Bytes, one scale for all that is read, and scales of weights by output channel or one for all."""
        one = all(self._count(name) == 1 for name in data.input[1:] if name)
        kinds = {self._stored[weight.input[0]].data_type, self._kind(data.input[0])}
        known = all(name in self._stored for name in weight.input[1:] if name)
        by_output = known and (self._count(weight.input[1]) == 1 or _integer(weight, "axis", 1) == 0)
        return one and by_output and kinds <= {TensorProto.INT8, TensorProto.UINT8}

    def _kind(self, name: str) -> int:
        return self._types[name].elem_type if name in self._types else TensorProto.UNDEFINED

    def _count(self, name: str) -> int:
        shape = self._types[name].shape if name in self._types else None
        return -1 if shape is None else int(np.prod(shape))

    def _dequantize(self, name: str) -> onnx.NodeProto | None:
        node = self._maker.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def _store(self, name: str, values: np.ndarray[Any, Any]) -> None:
        self._graph.initializer.append(numpy_helper.from_array(values, name))


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)
