"""Rewrites matrix products so that the runtime multiplies by small weights as they are stored, and never expands them.

A weight of K x N values becomes onnxruntime's ``MatMulNBits``: each column is cut into blocks of ``block`` values, each block has
a scale of its own, and the integers lie two (4 bits) or one (8 bits) to a byte, the first in the low half. The middle, 8 or 128,
is zero. Source: onnxruntime, ContribOperators.md, com.microsoft.MatMulNBits.

Scales are chosen for the smallest squared error rather than for the largest value. What a layer loses by 4 bits is told by its
signal-to-noise ratio; layers under the limit get 8.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_compress_quantize.wiring import Names, Wiring, attribute, drop_unused_constants, replace

Array = np.ndarray[Any, Any]

DOMAIN = "com.microsoft"
_SHRINK = [1 - step / 40 for step in range(15)]
"""shares of the range that rounds the largest value exactly, tried in this order"""
_SMALLEST_BLOCK = 16
_INTEGER_LEVEL = 4
"""``accuracy_level`` that lets the runtime round activations to int8, block by block"""


@dataclass(frozen=True)
class Blocks:
    """How weights are cut and multiplied."""

    bits: int = 4
    size: int = 32
    """values of a column that share a scale: a power of two, 16 or more; fewer where a matrix would have to be padded much"""
    integers: bool = True
    """activations are rounded to int8 too"""
    least_values: int = 4096
    """smaller matrices are left alone: they save little and cost a node"""
    least_decibels: float = 0.0
    """a matrix whose signal-to-noise ratio in 4 bits is lower gets 8 bits"""


@dataclass(frozen=True)
class Product:
    """A product by a constant matrix: its node, the weight as (inputs, outputs), and what is added afterwards."""

    node: onnx.NodeProto
    weight: Array
    bias: str


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight in blocks: ``data`` uint8 of (outputs, blocks, bytes), ``scales`` float32 of (outputs, blocks)."""

    data: Array
    scales: Array
    bits: int
    size: int
    decibels: float
    """signal over rounding noise"""

    @property
    def bytes(self) -> int:
        """What it takes in a file."""
        return int(self.data.nbytes + self.scales.nbytes)


def rewrite(model: onnx.ModelProto, wiring: Wiring, blocks: Blocks, exclude: Collection[str] = ()) -> dict[str, int]:
    """Edit ``model`` in place; returns the bits of each product that was rewritten, by the name of its output.

    ``exclude`` holds names of nodes, or of tensors they make, that stay as they are.
    """
    found = {id(item.node): item for item in products(wiring, blocks.least_values) if not _named(item.node) & set(exclude)}
    names, constants, nodes, chosen = Names(model.graph), [], [], {}
    for node in model.graph.node:
        product = found.get(id(node))
        if product is None or (packed := _packed(product.weight, blocks)) is None:
            nodes.append(node)
            continue
        weight, scales = (names.fresh(prefix) for prefix in "qs")
        constants += [numpy_helper.from_array(packed.data, weight), numpy_helper.from_array(packed.scales, scales)]
        nodes += _nodes(product, packed, (weight, scales), blocks.integers, names)
        chosen[node.output[0]] = packed.bits
    if chosen:
        replace(model.graph.initializer, [*model.graph.initializer, *constants])
        replace(model.graph.node, nodes)
        drop_unused_constants(model.graph)
        if not any(item.domain == DOMAIN for item in model.opset_import):
            model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return chosen


def products(wiring: Wiring, least_values: int) -> Iterator[Product]:
    """Every MatMul and plain Gemm by a constant float32 matrix of at least so many values."""
    for node in wiring.graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.input[0] in wiring.constants or not _is_plain(node):
            continue
        weight = wiring.float_constant(node.input[1])
        if weight is None or weight.ndim != 2 or weight.size < least_values or not np.isfinite(weight).all():
            continue
        turned = node.op_type == "Gemm" and attribute(node, "transB", 0)
        yield Product(node, weight.T if turned else weight, node.input[2] if len(node.input) > 2 else "")


def pack(weight: Array, bits: int, size: int) -> Packed:
    """The (K, N) weight in blocks of ``size`` along K; the last block is filled with zeros."""
    rows, columns = weight.shape
    count = -(-rows // size)
    padded = np.zeros((columns, count * size), np.float32)
    padded[:, :rows] = weight.T
    values = padded.reshape(columns, count, size)
    scales = _scales(values, bits)
    middle = 2 ** (bits - 1)
    steps = _rounded(values, scales, middle)
    noise = float(np.square(values - steps * scales[..., None]).sum(dtype=np.float64))
    power = float(np.square(values).sum(dtype=np.float64))
    stored = (steps + middle).astype(np.uint8)
    data = stored if bits == 8 else stored[..., 0::2] | (stored[..., 1::2] << 4)
    return Packed(np.ascontiguousarray(data), scales, bits, size, 10 * np.log10(power / noise) if noise and power else np.inf)


def _scales(values: Array, bits: int) -> Array:
    """One scale a block, by the least squared error. The grid reaches one step further down than up, so its sign is tried too."""
    middle = 2 ** (bits - 1)
    extreme = np.take_along_axis(values, np.abs(values).argmax(-1)[..., None], -1)[..., 0]
    best = np.where(extreme == 0, np.float32(1), np.abs(extreme) / (middle - 1)).astype(np.float32)
    least = _error(values, best, middle)
    for share in _SHRINK:
        for tried in (np.abs(extreme) * share / (middle - 1), -extreme * share / middle):
            scale = np.where(extreme == 0, np.float32(1), tried).astype(np.float32)
            error = _error(values, scale, middle)
            better = error < least
            best, least = np.where(better, scale, best), np.where(better, error, least)
    return best


def _error(values: Array, scales: Array, middle: int) -> Array:
    return np.asarray(np.square(values - _rounded(values, scales, middle) * scales[..., None]).sum(-1))


def _rounded(values: Array, scales: Array, middle: int) -> Array:
    return np.asarray(np.clip(np.rint(values / scales[..., None]), -middle, middle - 1))


def _packed(weight: Array, blocks: Blocks) -> Packed | None:
    """The weight in blocks; None where the file would not become smaller."""
    packed = pack(weight, blocks.bits, _size(len(weight), blocks.size, blocks.bits))
    if blocks.bits == 4 and packed.decibels < blocks.least_decibels:
        packed = pack(weight, 8, _size(len(weight), blocks.size, 8))
    return packed if packed.bytes < weight.nbytes else None


def _size(rows: int, most: int, bits: int) -> int:
    """The size of blocks, at most ``most``, that takes the fewest bytes, padding and scales together."""
    sizes = [most >> shift for shift in range(most.bit_length()) if most >> shift >= _SMALLEST_BLOCK]
    return min(sizes, key=lambda size: -(-rows // size) * (size * bits // 8 + 4))


def _nodes(
    product: Product, packed: Packed, constants: tuple[str, str], integers: bool, names: Names
) -> Iterator[onnx.NodeProto]:
    rows, columns = product.weight.shape
    output = product.node.output[0]
    attributes = {"K": rows, "N": columns, "bits": packed.bits, "block_size": packed.size}
    if integers:
        attributes["accuracy_level"] = _INTEGER_LEVEL
    made = names.fresh("p") if product.bias else output
    inputs = [product.node.input[0], *constants]
    yield helper.make_node("MatMulNBits", inputs, [made], name=product.node.name, domain=DOMAIN, **attributes)
    if product.bias:
        yield helper.make_node("Add", [made, product.bias], [output])


def _is_plain(node: onnx.NodeProto) -> bool:
    """Whether a Gemm is a product and a sum and nothing else."""
    return not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0


def _named(node: onnx.NodeProto) -> set[str]:
    return {node.name, *node.output} - {""}
