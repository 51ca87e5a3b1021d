"""Writes a placement into a graph as QuantizeLinear and DequantizeLinear pairs that the runtime fuses into integer kernels.

The form, which onnxruntime's fusions look for: a DequantizeLinear before each operand of an integer node, a QuantizeLinear
after its result, weights as int8 constants behind a DequantizeLinear, biases as int32 constants with scale_x * scale_w. Moving
nodes run on the integers themselves, without a pair around them. Bounds that the saturation of a grid already sets are dropped.

Everything is written in graph order with numbered names, so equal inputs give equal bytes. Leaves the choice of nodes to
``placement`` and of activation ranges to ``ranges``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_compress_quantize.grid import Grid, GridSettings
from edge_compress_quantize.kernels import Kernel, WeightKey, bias_of
from edge_compress_quantize.placement import Placement
from edge_compress_quantize.rules import Role, bounds, moved_inputs, operands
from edge_compress_quantize.wiring import Names, Wiring, drop_unused_constants, replace

Array = np.ndarray[Any, Any]


def insert(
    graph: onnx.GraphProto,
    wiring: Wiring,
    placement: Placement,
    grids: Mapping[str, Grid],
    kernels: Mapping[WeightKey, Kernel],
    settings: GridSettings,
    biases: Mapping[str, Array] | None = None,
) -> None:
    """Edit ``graph`` in place. ``grids`` has one grid for every root of ``placement``, ``kernels`` the integers of every weight
    tensor; ``biases`` replaces those of some multiplying nodes, known by their first output."""
    writer = _Writer(graph, wiring, placement, grids, kernels, settings, biases or {})
    for name in wiring.inputs:
        if name in placement.wanted:
            writer.quantize(name, name)
    for node in graph.node:
        writer.write(node)
    replace(graph.node, writer.nodes)
    graph.initializer.extend(writer.constants)
    drop_unused_constants(graph)


class _Writer:
    """Builds the new list of nodes, one old node after the other."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        wiring: Wiring,
        placement: Placement,
        grids: Mapping[str, Grid],
        kernels: Mapping[WeightKey, Kernel],
        settings: GridSettings,
        biases: Mapping[str, Array],
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._wiring, self._placement, self._settings = wiring, placement, settings
        self._grids, self._kernels, self._biases = grids, kernels, biases
        self._names = Names(graph)
        self._kept = wiring.outputs | wiring.captured
        """tensors that must go on to exist as floats under their own name"""
        self._integer: dict[str, str] = {}
        self._float: dict[str, str] = {}
        self._grid_names: dict[str, list[str]] = {}
        self._weights: dict[WeightKey, str] = {}

    def write(self, node: onnx.NodeProto) -> None:
        kind = self._placement.roles.get(node.output[0])
        if kind is Role.MOVE:
            self._write_move(node)
            return
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        if kind is Role.MULTIPLY:
            self._feed_multiply(changed)
        else:
            self._feed(changed, integer=kind is Role.JOIN)
        self._append_with_results(changed)

    def quantize(self, source: str, name: str) -> None:
        """Make the integers of tensor ``name`` from the float tensor ``source``."""
        self._integer[name] = self._names.fresh("q")
        self._add("QuantizeLinear", [source, *self._grid_of(name)], self._integer[name])

    def _append_with_results(self, node: onnx.NodeProto) -> None:
        made = list(node.output)
        for index, name in enumerate(made):
            if name in self._placement.emitted and name in self._kept:
                node.output[index] = self._names.fresh("f")
        self.nodes.append(node)
        for source, name in zip(node.output, made, strict=True):
            if name in self._placement.root:
                self.quantize(source, name)
                self._keep(name)

    def _keep(self, name: str) -> None:
        if name in self._placement.emitted and name in self._kept:
            self._dequantized(name)

    def _write_move(self, node: onnx.NodeProto) -> None:
        limits = bounds(node, self._wiring)
        if limits is not None:
            self._write_bound(node, limits)
        else:
            moved = onnx.NodeProto()
            moved.CopyFrom(node)
            moved.input[0] = self._integer[node.input[0]]
            for index, name in enumerate(node.output):
                moved.output[index] = self._integer[name] = self._names.fresh("q") if name else ""
            if node.op_type == "Pad":
                self._pad_with_zero_point(moved, node.output[0])
            self.nodes.append(moved)
        for name in filter(None, node.output):
            self._keep(name)

    def _write_bound(self, node: onnx.NodeProto, limits: tuple[float, float]) -> None:
        """A bound that saturation sets already costs nothing; any other becomes a Clip of the integers."""
        source, name = self._integer[node.input[0]], node.output[0]
        grid = self._grids[self._placement.root[name]]
        low, high = (int(grid.quantize(np.asarray(limit))) for limit in limits)
        if low <= grid.low and high >= grid.high:
            self._integer[name] = source
            return
        edges = [self._constant("c", np.asarray(edge, grid.zero_point.dtype)) for edge in (low, high)]
        self._integer[name] = self._names.fresh("q")
        self._add("Clip", [source, *edges], self._integer[name])

    def _pad_with_zero_point(self, node: onnx.NodeProto, name: str) -> None:
        _, zero_point = self._grid_of(name)
        while len(node.input) < 3:
            node.input.append("")
        node.input[2] = zero_point

    def _feed(self, node: onnx.NodeProto, *, integer: bool) -> None:
        """Give a node its operands as floats: dequantised, or as they are where only the float exists."""
        data = set(moved_inputs(node)) if integer else set()
        for index, name in enumerate(node.input):
            if integer and name in data and name in self._wiring.constants:
                node.input[index] = self._dequantized_constant(name)
            elif name in self._placement.emitted or (integer and name in self._placement.wanted):
                node.input[index] = self._dequantized(name)

    def _feed_multiply(self, node: onnx.NodeProto) -> None:
        found = operands(node, self._wiring)
        assert found is not None
        data, key = node.input[0], (node.input[1], found.axis)
        node.input[0], node.input[1] = self._dequantized(data), self._dequantized_weights(key)
        bias = bias_of(node, found, self._biases)
        if bias is not None:
            steps = self._dequantized_bias(bias, self._grids[self._placement.root[data]], self._kernels[key].grid)
            replace(node.input, [*node.input[:2], steps])
        replace(node.attribute, [item for item in node.attribute if item.name != "beta"])

    def _dequantized(self, name: str) -> str:
        if name not in self._float:
            named = name in self._kept and name in self._placement.emitted
            self._float[name] = name if named else self._names.fresh("d")
            self._add("DequantizeLinear", [self._integer[name], *self._grid_of(name)], self._float[name])
        return self._float[name]

    def _dequantized_constant(self, name: str) -> str:
        if name not in self._float:
            value = self._wiring.float_constant(name)
            assert value is not None
            grid = self._settings.activation(value.min(initial=0.0), value.max(initial=0.0))
            self._float[name] = self._stored(grid.quantize(value), grid)
        return self._float[name]

    def _dequantized_weights(self, key: WeightKey) -> str:
        if key not in self._weights:
            kernel = self._kernels[key]
            self._weights[key] = self._stored(kernel.integers, kernel.grid)
        return self._weights[key]

    def _dequantized_bias(self, bias: Array, data: Grid, weights: Grid) -> str:
        scale = (data.scale * weights.scale).astype(np.float32)
        steps = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
        operands_ = [self._constant("b", steps.astype(np.int32)), self._constant("s", scale)]
        name = self._names.fresh("d")
        self._add("DequantizeLinear", operands_, name, axis=0 if scale.ndim else None)
        return name

    def _stored(self, values: Array, grid: Grid) -> str:
        """Constant integers behind a DequantizeLinear; returns the name of the floats."""
        name = self._names.fresh("d")
        parts = [self._constant("w", values), self._constant("s", grid.scale), self._constant("z", grid.zero_point)]
        self._add("DequantizeLinear", parts, name, axis=grid.axis)
        return name

    def _grid_of(self, name: str) -> list[str]:
        """Names of the scale and zero point of an activation."""
        root = self._placement.root[name]
        if root not in self._grid_names:
            grid = self._grids[root]
            self._grid_names[root] = [self._constant("s", grid.scale), self._constant("z", grid.zero_point)]
        return self._grid_names[root]

    def _constant(self, prefix: str, value: Array) -> str:
        name = self._names.fresh(prefix)
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _add(self, op: str, inputs: list[str], output: str, *, axis: int | None = None) -> None:
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
