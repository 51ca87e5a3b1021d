"""Stores weights in 8 or 4 bits and turns them back into floats inside the model: arithmetic stays float.

Two ways back, chosen by where memory matters. At load: Cast and Mul, which the runtime folds into plain float weights when it
opens the model (a DequantizeLinear is never folded, which keeps weights out of its packed kernels: measured 1.2 to 2 times
slower). At run: DequantizeLinear, so that weights stay small in memory and are expanded each time they are used.

Two 4-bit values share a byte and are parted by shifts, which every runtime folds; INT4 tensors would need opset 21.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress_quantize.grid import Grid, weight_grid
from edge_compress_quantize.wiring import Names, Wiring, attribute, drop_unused_constants, replace

Array = np.ndarray[Any, Any]

_GRIDS = ("QuantizeLinear", "DequantizeLinear")
"""their constants are scales"""
_MIDDLE = 8
"""zero of an unsigned 4-bit value"""


@dataclass(frozen=True)
class StorageSettings:
    """How weights are stored."""

    bits: int = 8
    at_run: bool = False
    least_values: int = 256
    """smaller tensors stay float: their scales and nodes would outweigh them"""
    least_narrow: int = 4096
    """smaller tensors are stored in 8 bits: first and depthwise layers, where few bits do the most harm and save the least"""


def store(graph: onnx.GraphProto, wiring: Wiring, settings: StorageSettings, exclude: frozenset[str] = frozenset()) -> int:
    """Edit ``graph`` in place; returns how many weight values are stored small. ``exclude`` holds node names."""
    writer = _Writer(Names(graph), settings)
    stored = 0
    for name, axis in _weights(wiring, exclude):
        values = wiring.float_constant(name)
        if values is not None and values.size >= settings.least_values and np.isfinite(values).all():
            writer.store(name, values, axis)
            stored += values.size
    kept = [item for item in graph.initializer if item.name not in writer.stored]
    replace(graph.initializer, [*kept, *writer.constants])
    replace(graph.node, [*writer.nodes, *graph.node])
    drop_unused_constants(graph)
    return stored


def channel_axis(node: onnx.NodeProto, index: int, rank: int) -> int | None:
    """The axis of input ``index`` along which scales differ; None: one scale."""
    if index == 0 and node.op_type == "Gather":
        return 0 if rank > 1 else None
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return 1 if rank == 3 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": rank - 1}.get(node.op_type)
    return axis if index == 1 and rank > 1 else None


def _weights(wiring: Wiring, exclude: frozenset[str]) -> Iterator[tuple[str, int | None]]:
    """Every matrix or kernel of floats that a node reads, once, with the channel axis its first reader implies.

    Vectors (biases, norms) stay as they are: they are small, and one scale for all of one is too coarse.
    """
    seen: set[str] = set()
    for node in wiring.graph.node:
        if node.op_type in _GRIDS:
            continue
        names = {node.name, *node.output}
        for index, name in enumerate(node.input):
            tensor = wiring.constants.get(name)
            if tensor is None or name in seen or tensor.data_type != TensorProto.FLOAT or name in wiring.outputs:
                continue
            if sum(length > 1 for length in tensor.dims) < 2:
                continue
            if not names & exclude:
                seen.add(name)
                yield name, channel_axis(node, index, len(tensor.dims))


class _Writer:
    """Collects the constants and nodes that give each stored tensor back under its old name."""

    def __init__(self, names: Names, settings: StorageSettings) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.stored: set[str] = set()
        self._names, self._settings = names, settings

    def store(self, name: str, values: Array, axis: int | None) -> None:
        """Store one tensor."""
        bits = self._settings.bits if values.size >= self._settings.least_narrow else 8
        grid = weight_grid(values, axis=axis, bits=bits)
        integers = grid.quantize(values)
        self.stored.add(name)
        if bits > 4:
            self._expand(self._constant("w", integers), name, grid, values.ndim, middle=None)
        else:
            self._expand(self._unpacked(integers), name, grid, values.ndim, middle=_MIDDLE)

    def _unpacked(self, integers: Array) -> str:
        """The name of a uint8 tensor with one 4-bit value an element, in the shape of ``integers``."""
        flat = (integers.reshape(-1).astype(np.int16) + _MIDDLE).astype(np.uint8)
        half = -(-flat.size // 2)
        low = np.concatenate([flat[half:], np.zeros(2 * half - flat.size, np.uint8)])
        packed = self._constant("w", (flat[:half] << 4) | low)
        four = self._constant("c", np.asarray(4, np.uint8))
        high = self._node("BitShift", [packed, four], direction="RIGHT")
        raised = self._node("BitShift", [packed, four], direction="LEFT")
        joined = self._node("Concat", [high, self._node("BitShift", [raised, four], direction="RIGHT")], axis=0)
        if flat.size != 2 * half:
            joined = self._node("Slice", [joined, self._whole([0]), self._whole([flat.size])])
        return self._node("Reshape", [joined, self._whole(integers.shape)])

    def _expand(self, integers: str, name: str, grid: Grid, rank: int, *, middle: int | None) -> None:
        if self._settings.at_run:
            zero = np.full(grid.scale.shape, middle or 0, np.int8 if middle is None else np.uint8)
            inputs = [integers, self._constant("s", grid.scale), self._constant("z", zero)]
            axis: dict[str, Any] = {} if grid.axis is None else {"axis": grid.axis}
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **axis))
            return
        values = self._node("Cast", [integers], to=TensorProto.FLOAT)
        if middle is not None:
            values = self._node("Sub", [values, self._constant("c", np.asarray(middle, np.float32))])
        self.nodes.append(helper.make_node("Mul", [values, self._constant("s", _broadcast(grid, rank))], [name]))

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = self._names.fresh("d")
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def _whole(self, numbers: Any) -> str:
        return self._constant("c", np.asarray(numbers, np.int64))

    def _constant(self, prefix: str, value: Array) -> str:
        name = self._names.fresh(prefix)
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def _broadcast(grid: Grid, rank: int) -> Array:
    shape = [1] * rank
    if grid.axis is not None:
        shape[grid.axis] = -1
    return grid.scale.reshape(shape if grid.axis is not None else ())
