"""Rewrites matrix products so that their activations are quantised as they arrive, and LSTMs to the runtime's integer form.

x @ W becomes Cast(MatMulInteger(DynamicQuantizeLinear(x), q)) * (scale_x * scale_w), which onnxruntime fuses into one kernel.
An activation that several products read is quantised once. LSTM becomes com.microsoft.DynamicQuantizeLSTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress_quantize.grid import Grid, GridSettings
from edge_compress_quantize.rules import Multiply, operands
from edge_compress_quantize.wiring import Names, Wiring, attribute, drop_unused_constants, replace

Array = np.ndarray[Any, Any]

_CONTRIB = "com.microsoft"
_LSTM_FUNCTIONS = {"sigmoid", "tanh"}


def rewrite(model: onnx.ModelProto, wiring: Wiring, settings: GridSettings, exclude: frozenset[str] = frozenset()) -> int:
    """Edit ``model`` in place; returns how many nodes were rewritten. ``exclude`` holds node and tensor names."""
    writer = _Writer(Names(model.graph), wiring, settings)
    for node in model.graph.node:
        kept = node.name in exclude or not exclude.isdisjoint(node.output)
        writer.write(node, kept)
    replace(model.graph.node, writer.nodes)
    model.graph.initializer.extend(writer.constants)
    drop_unused_constants(model.graph)
    if writer.contrib and all(item.domain != _CONTRIB for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    return writer.count


class _Writer:
    """Builds the new list of nodes."""

    def __init__(self, names: Names, wiring: Wiring, settings: GridSettings) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.count = 0
        self.contrib = False
        self._names, self._wiring, self._settings = names, wiring, settings
        self._quantized: dict[str, tuple[str, str, str]] = {}
        self._weights: dict[tuple[str, int], tuple[str, str, str]] = {}

    def write(self, node: onnx.NodeProto, kept: bool) -> None:
        """Append a node as it is, or its integer form."""
        found = operands(node, self._wiring) if node.op_type in ("MatMul", "Gemm") and not kept else None
        if found is not None:
            self._multiply(node, found)
        elif node.op_type == "LSTM" and not kept and (weights := _lstm_weights(node, self._wiring)):
            self._lstm(node, *weights)
        else:
            self.nodes.append(node)
            return
        self.count += 1

    def _multiply(self, node: onnx.NodeProto, found: Multiply) -> None:
        integers, data_scale, data_zero = self._data(node.input[0])
        weights, scale, zero = self._matrix(node.input[1], found)
        summed = self._node("MatMulInteger", [integers, weights, data_zero, zero])
        factor = self._node("Mul", [data_scale, scale])
        product = [self._node("Cast", [summed], to=TensorProto.FLOAT), factor]
        if found.bias is None:
            self._node("Mul", product, output=node.output[0])
        else:
            self._node("Add", [self._node("Mul", product), self._constant("b", found.bias)], output=node.output[0])

    def _data(self, name: str) -> tuple[str, str, str]:
        if name not in self._quantized:
            outputs = (self._names.fresh("q"), self._names.fresh("s"), self._names.fresh("z"))
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [name], list(outputs)))
            self._quantized[name] = outputs
        return self._quantized[name]

    def _matrix(self, name: str, found: Multiply) -> tuple[str, str, str]:
        key = (name, found.axis)
        if key not in self._weights:
            matrix = found.weights if found.axis == 1 else np.ascontiguousarray(found.weights.T)
            grid = self._settings.weight(matrix, 1, None)
            self._weights[key] = self._stored(grid.quantize(matrix), grid)
        return self._weights[key]

    def _lstm(self, node: onnx.NodeProto, weights: Array, recurrent: Array) -> None:
        """Weights go in as (directions, inputs, 4 * hidden), one scale an output or a direction."""
        stored = [self._lstm_matrix(np.ascontiguousarray(item.transpose(0, 2, 1))) for item in (weights, recurrent)]
        inputs = [*node.input, *[""] * (8 - len(node.input))]
        inputs[1], inputs[2] = stored[0][0], stored[1][0]
        scales = [name for item in stored for name in item[1:]]
        changed = helper.make_node("DynamicQuantizeLSTM", [*inputs, *scales], list(node.output), domain=_CONTRIB)
        changed.attribute.extend(item for item in node.attribute if item.name != "layout")  # it has no such choice
        self.nodes.append(changed)
        self.contrib = True

    def _lstm_matrix(self, weights: Array) -> tuple[str, str, str]:
        grids = [self._settings.weight(item, 1, None) for item in weights]
        integers = np.stack([grid.quantize(item) for grid, item in zip(grids, weights, strict=True)])
        scale = np.stack([grid.scale for grid in grids])
        return self._stored(integers, Grid(scale, np.zeros(scale.shape, np.int8), -128, 127))

    def _stored(self, integers: Array, grid: Grid) -> tuple[str, str, str]:
        return self._constant("w", integers), self._constant("s", grid.scale), self._constant("z", grid.zero_point)

    def _node(self, op: str, inputs: list[str], *, output: str = "", **attributes: Any) -> str:
        name = output or self._names.fresh("d")
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def _constant(self, prefix: str, value: Array) -> str:
        name = self._names.fresh(prefix)
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def _lstm_weights(node: onnx.NodeProto, wiring: Wiring) -> tuple[Array, Array] | None:
    """W and R of an LSTM that the integer kernel can run: constant, no peepholes, the usual functions."""
    weights, recurrent = (wiring.float_constant(name) for name in node.input[1:3])
    functions = {item.decode().lower() for item in attribute(node, "activations", [])}
    plain = functions <= _LSTM_FUNCTIONS and not attribute(node, "layout", 0) and not attribute(node, "input_forget", 0)
    if weights is None or recurrent is None or not plain or (len(node.input) > 7 and node.input[7]):
        return None
    return weights, recurrent
