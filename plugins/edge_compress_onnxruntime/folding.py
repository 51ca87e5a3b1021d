"""Integer convolutions over few channels, on processors that multiply integers well: neighbouring pixels become channels.

onnxruntime's integer convolutions (MLAS, ``ConvSym``) look up where each place of the kernel reads for every output pixel and
multiply whole groups of four input by sixteen output channels. A first layer over three channels spends its time on the former.
Four pixels of a row read as one of twelve channels need a quarter of the look-ups; the answers are the same to the bit. Weights
are stored as they were and laid out when the model is loaded. Only the target knows this, so only its file has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.shapes import TensorType, tensor_types

_PIXELS = (2, 4, 8)
"""of a row that are tried as one"""
_LANES, _BLOCK = 4, 16
"""input channels that are read, and output channels that are made, at a time"""
_MOST_CHANNELS = 4
_FIRST_OPSET = 13
"""of scales for each channel"""
_LOOK_UP, _STORE, _MULTIPLY = 1.0, 0.7, 0.145
"""nanoseconds for each pixel: a place of the kernel, a block of outputs, and a block of outputs over four inputs. Fitted to
convolutions of ResNet-8 and ResNet-20 on one core with AVX-512 VNNI; only their ratios count"""
_FILL = 2.0
"""the same, for filling a pixel up to four channels"""
_WORTH = 0.85
"""share of the time that folding must come down to"""
_ROWS_LAST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def fold_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which such convolutions read several pixels as one where that is faster; the model itself where there are none.

    ``model`` is tidy and in the form of QuantizeLinear and DequantizeLinear pairs around float operators.
    """
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1)
    if opset < _FIRST_OPSET or not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    folder = _Folder(copy)
    replaced: dict[str, list[onnx.NodeProto]] = {}
    for found in folder.found():
        if (fold := _best_fold(found)) is not None:
            replaced[found.conv.output[0]] = []
            replaced[found.quantize.output[0]] = folder.folded(found, fold)
    if not replaced:
        return model
    nodes = [new for node in copy.graph.node for new in replaced.get(node.output[0], [node])]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


@dataclass(frozen=True)
class _Found:
    """A convolution of integers over few channels, and what stands around it."""

    conv: onnx.NodeProto
    data: onnx.NodeProto
    """the DequantizeLinear that it reads"""
    weight: onnx.NodeProto
    bias: onnx.NodeProto | None
    quantize: onnx.NodeProto
    """of its output, which nobody else reads"""
    shape: tuple[int, int, int, int]
    """of the weights: outputs, inputs, height, width"""
    reads: tuple[int, int]
    """height and width of what it reads"""
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    """top, left, bottom, right"""

    @property
    def makes(self) -> tuple[int, int]:
        """Height and width of what it makes."""
        (height, width), (top, left, bottom, right) = self.reads, self.pads
        rows = (height + top + bottom - self.shape[2]) // self.strides[0] + 1
        return rows, (width + left + right - self.shape[3]) // self.strides[1] + 1


@dataclass(frozen=True)
class _Fold:
    """``pixels`` are read as one, ``made`` output pixels are made as one; ``first`` and ``count`` say which such groups an output
    group reads, the first relative to its own; ``behind``: how many there must be behind the last one."""

    pixels: int
    made: int
    first: int
    count: int
    behind: int


def _fold(found: _Found, pixels: int) -> _Fold | None:
    """How so many pixels are folded; None: they cannot be."""
    stride, (_, width), (_, made) = found.strides[1], found.reads, found.makes
    if pixels % stride or width % pixels or made % (pixels // stride) or pixels * found.shape[1] % _LANES:
        return None
    outputs = pixels // stride
    first = -found.pads[1] // pixels
    last = ((outputs - 1) * stride - found.pads[1] + found.shape[3] - 1) // pixels
    behind = made // outputs - 1 + last + 1 - width // pixels
    return _Fold(pixels, outputs, first, last - first + 1, behind) if behind >= 0 else None


def _best_fold(found: _Found) -> _Fold | None:
    """The fastest way to fold by the cost of its parts; None: leaving it as it is."""
    outputs, inputs, height, width = found.shape
    rows, columns = found.makes
    fill = -inputs % _LANES
    whole = rows * columns * _nanoseconds(height * width, outputs, inputs + fill) + (
        found.reads[0] * found.reads[1] * _FILL if fill else 0
    )
    best: tuple[float, _Fold | None] = (_WORTH * whole, None)
    for fold in (_fold(found, pixels) for pixels in _PIXELS):
        if fold is not None:
            each = _nanoseconds(height * fold.count, fold.made * outputs, fold.pixels * inputs)
            best = min(best, (rows * (columns // fold.made) * each, fold), key=lambda pair: pair[0])
    return best[1]


def _nanoseconds(places: int, outputs: int, inputs: int) -> float:
    """Of one output pixel of a convolution with so many places in its kernel."""
    blocks = -(-outputs // _BLOCK)
    return _LOOK_UP * places + blocks * (_STORE + _MULTIPLY * places * inputs / _LANES)


class _Folder:
    """What must be known of a model to fold its pixels."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._types: Mapping[str, TensorType] = tensor_types(model)
        self._maker = {name: node for node in model.graph.node for name in node.output if name}
        self._stored = {item.name: item for item in model.graph.initializer}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._told = {item.name for item in model.graph.output}

    def found(self) -> Iterator[_Found]:
        """The convolutions that may be folded."""
        for node in self._graph.node:
            if node.op_type == "Conv" and (found := self._look_at(node)) is not None:
                yield found

    def folded(self, found: _Found, fold: _Fold) -> list[onnx.NodeProto]:
        """The nodes that make what ``found.quantize`` made."""
        name, (rows, columns) = f"{found.quantize.output[0]}_fold", found.makes
        apart = self._integers(f"{name}_apart", [0, rows, columns, found.shape[0]])
        before, source, pixels_first = self._groups(name, found, fold)
        top, _, bottom, _ = found.pads
        conv = helper.make_node(
            "Conv",
            [f"{name}_read", f"{name}_weights", *([f"{name}_biases"] if found.bias is not None else [])],
            [f"{name}_made"],
            kernel_shape=[found.shape[2], fold.count],
            strides=[found.strides[0], 1],
            pads=[top, -fold.first, bottom, fold.behind],
        )
        return [
            *before,
            helper.make_node("Transpose", [source], [f"{name}_planes"], perm=_ROWS_LAST),
            helper.make_node("DequantizeLinear", [f"{name}_planes", *found.data.input[1:]], [f"{name}_read"]),
            *self._layout(name, found, fold, pixels_first=pixels_first),
            conv,
            helper.make_node("QuantizeLinear", [f"{name}_made", *found.quantize.input[1:]], [f"{name}_bytes"]),
            helper.make_node("Transpose", [f"{name}_bytes"], [f"{name}_last"], perm=_CHANNELS_LAST),
            helper.make_node("Reshape", [f"{name}_last", apart], [f"{name}_pixels"]),
            helper.make_node("Transpose", [f"{name}_pixels"], [found.quantize.output[0]], perm=_ROWS_LAST),
        ]

    def _groups(self, name: str, found: _Found, fold: _Fold) -> tuple[list[onnx.NodeProto], str, bool]:
        """What makes groups of pixels with everything of a group last, its name, and whether the pixels come before the channels
        in it: they do where channels were last in the first place, as in many models; else groups are moved as they lie."""
        height, width, channels = *found.reads, found.shape[1]
        groups = self._integers(f"{name}_wide", [0, height, width // fold.pixels, fold.pixels * channels])
        source, made = found.data.input[0], f"{name}_groups"
        maker = self._maker.get(source)
        if maker is not None and maker.op_type == "Transpose" and _attribute(maker, "perm", ()) == _ROWS_LAST:
            return [helper.make_node("Reshape", [maker.input[0], groups], [made])], made, True
        split = self._integers(f"{name}_cut", [0, channels, height, width // fold.pixels, fold.pixels])
        nodes = [
            helper.make_node("Reshape", [source, split], [f"{name}_pieces"]),
            helper.make_node("Transpose", [f"{name}_pieces"], [f"{name}_rows"], perm=(0, 2, 3, 1, 4)),
            helper.make_node("Reshape", [f"{name}_rows", groups], [made]),
        ]
        return nodes, made, False

    def _layout(self, name: str, found: _Found, fold: _Fold, *, pixels_first: bool) -> list[onnx.NodeProto]:
        """What lays the stored weights out: those of each output pixel moved along the groups that it reads.
        onnxruntime does it once, when it loads the model."""
        outputs, inputs, height, width = found.shape
        row = fold.count * fold.pixels
        shapes = {
            "split": [fold.made * outputs, inputs, height, fold.count, fold.pixels],
            "joined": [fold.made * outputs, fold.pixels * inputs, height, fold.count],
        }
        named = {key: self._integers(f"{name}_{key}", value) for key, value in shapes.items()}
        turn = (0, 4, 1, 2, 3) if pixels_first else (0, 1, 4, 2, 3)
        nodes = []
        for pixel in range(fold.made):
            before = pixel * found.strides[1] - found.pads[1] - fold.first * fold.pixels
            widths = self._integers(f"{name}_move{pixel}", [0, 0, 0, before, 0, 0, 0, row - width - before])
            nodes.append(helper.make_node("Pad", [found.weight.input[0], widths], [f"{name}_moved{pixel}"]))
        moved = [f"{name}_moved{pixel}" for pixel in range(fold.made)]
        return [
            *nodes,
            helper.make_node("Concat", moved, [f"{name}_all"], axis=0),
            helper.make_node("Reshape", [f"{name}_all", named["split"]], [f"{name}_parts"]),
            helper.make_node("Transpose", [f"{name}_parts"], [f"{name}_turned"], perm=turn),
            helper.make_node("Reshape", [f"{name}_turned", named["joined"]], [f"{name}_integers"]),
            self._dequantized(found.weight, f"{name}_integers", f"{name}_weights", fold.made),
            *([self._bias(found.bias, name, fold.made)] if found.bias is not None else []),
        ]

    def _bias(self, node: onnx.NodeProto, name: str, times: int) -> onnx.NodeProto:
        values = np.tile(numpy_helper.to_array(self._stored[node.input[0]]), times)
        return self._dequantized(node, self._store(f"{name}_bias", values), f"{name}_biases", times)

    def _dequantized(self, node: onnx.NodeProto, values: str, made: str, times: int) -> onnx.NodeProto:
        """A copy of a DequantizeLinear over ``times`` as many channels."""
        more = [self._repeated(name, made, times) for name in node.input[1:]]
        return helper.make_node("DequantizeLinear", [values, *more], [made], axis=0)

    def _repeated(self, name: str, near: str, times: int) -> str:
        values = numpy_helper.to_array(self._stored[name])
        return name if values.size == 1 else self._store(f"{near}_{name}", np.tile(values, times))

    def _look_at(self, conv: onnx.NodeProto) -> _Found | None:
        data, weight = (self._dequantize(name) for name in conv.input[:2])
        bias = self._dequantize(conv.input[2]) if len(conv.input) > 2 else None
        readers = self._readers.get(conv.output[0], [])
        if data is None or weight is None or weight.input[0] not in self._stored or (bias is None and len(conv.input) > 2):
            return None
        alone = len(readers) == 1 and readers[0].op_type == "QuantizeLinear" and conv.output[0] not in self._told
        shape = tuple(self._stored[weight.input[0]].dims)
        reads = self._spatial(data.input[0])
        if not alone or len(shape) != 4 or shape[1] > _MOST_CHANNELS or reads is None or not self._plain(data, weight, bias):
            return None
        if _attribute(conv, "group", 1) != 1 or any(item != 1 for item in _attribute(conv, "dilations", ())):
            return None
        if _attribute(conv, "auto_pad", b"NOTSET") != b"NOTSET":
            return None
        strides = tuple(_attribute(conv, "strides", (1, 1)))
        pads = tuple(_attribute(conv, "pads", (0, 0, 0, 0)))
        return _Found(conv, data, weight, bias, readers[0], shape, reads, strides, pads)

    def _plain(self, data: onnx.NodeProto, weight: onnx.NodeProto, bias: onnx.NodeProto | None) -> bool:
        """Bytes around one scale, weights around zero with scales by output channel or one for all, and everything stored."""
        parts = [weight, *([bias] if bias is not None else [])]
        if any(name not in self._stored for node in parts for name in node.input) or len(weight.input) < 3:
            return False
        one = all(self._count(name) == 1 for name in data.input[1:])
        by_output = all(self._count(node.input[1]) == 1 or _attribute(node, "axis", 1) == 0 for node in parts)
        around_zero = not numpy_helper.to_array(self._stored[weight.input[2]]).any()
        signed = self._stored[weight.input[0]].data_type == TensorProto.INT8
        kind = self._types[data.input[0]].elem_type if data.input[0] in self._types else TensorProto.UNDEFINED
        return one and by_output and around_zero and signed and kind in (TensorProto.INT8, TensorProto.UINT8)

    def _spatial(self, name: str) -> tuple[int, int] | None:
        shape = self._types[name].shape if name in self._types else None
        if shape is None or len(shape) != 4 or not all(isinstance(item, int) and item > 0 for item in shape[2:]):
            return None
        return shape[2], shape[3]

    def _count(self, name: str) -> int:
        shape = self._types[name].shape if name in self._types else None
        return -1 if shape is None else int(np.prod(shape))

    def _dequantize(self, name: str) -> onnx.NodeProto | None:
        node = self._maker.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def _integers(self, name: str, values: list[int]) -> str:
        return self._store(name, np.array(values, np.int64))

    def _store(self, name: str, values: np.ndarray[Any, Any]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((item for item in node.attribute if item.name == name), None)
    value = default if found is None else helper.get_attribute_value(found)
    return tuple(value) if isinstance(value, list) else value
