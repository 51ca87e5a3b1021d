"""The ONNX graph being written: unique names, each parameter once, and what a module is told when it writes itself.

A module that wants a say in its ONNX form has a method ``emit_onnx(call: Call) -> None``; plugins' modules may have one too.
Which module is written when is left to ``writer``, the forms of torch's own layers to ``layers_out``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.values import Size, Symbol

Array = np.ndarray[Any, Any]
Shapes = tuple[tuple[int, ...], ...]
"""the shape of one tensor in each probe"""


@dataclass(frozen=True)
class Template:
    """An ONNX node to write again. ``slots``: for each input the number of the run-time argument, a constant, or None."""

    proto: onnx.NodeProto
    slots: tuple[int | Array | None, ...]


@dataclass(frozen=True)
class Origin:
    """Where a call in an imported graph came from; kept in ``fx.Node.meta["onnx"]``."""

    template: Template
    kind: type
    """of the module it was imported as"""
    outputs: tuple[str, ...]
    weights: dict[str, str]
    """parameter -> name of the stored tensor"""
    bias: onnx.NodeProto | None = None
    """the Add that was taken into the layer as its bias"""


@dataclass
class Sheet:
    """Nodes and constants so far."""

    opset: int
    inputs: Sequence[str]
    symbols: Sequence[Symbol]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    padded: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """tensor that is another one with zeros around it, not written yet -> that one and the pads"""
    _parameters: dict[tuple[int, str], tuple[str, Tensor]] = field(default_factory=dict)
    _node_names: set[str] = field(default_factory=set)

    def fresh(self, hint: str) -> str:
        """A tensor name nobody has, like ``hint``."""
        return _unique(hint, self.taken)

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """Write a node; returns its first output."""
        proto = helper.make_node(op, inputs, outputs, **attributes)
        self.proto(proto, name or outputs[0])
        return outputs[0]

    def proto(self, proto: onnx.NodeProto, name: str) -> None:
        """Write a node as it is, under a node name nobody has."""
        proto.name = _unique(name, self._node_names)
        self.nodes.append(proto)

    def constant(self, values: Array, hint: str) -> str:
        """Store a constant of its own; returns its name."""
        name = self.fresh(hint)
        self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def integers(self, numbers: Sequence[int], hint: str) -> str:
        """Store a vector of int64."""
        return self.constant(np.array(numbers, np.int64), hint)

    def parameter(self, tensor: Tensor, hint: str, form: str = "", change: Callable[[Array], Array] | None = None) -> str:
        """Store a parameter, once for all layers that share it in the same ``form``; returns its name."""
        key = (id(tensor), form)
        if key not in self._parameters:
            values = tensor.detach().cpu().numpy()
            self._parameters[key] = (self.constant(change(values) if change else values, hint), tensor)
        return self._parameters[key][0]

    def plain(self, name: str) -> str:
        """The tensor as others read it: where it is a padded one, the padding is written now."""
        if name not in self.padded:
            return name
        source, pads = self.padded.pop(name)
        half = len(pads) // 2
        every = [0, 0, *pads[:half], 0, 0, *pads[half:]]
        if self.opset < 11:
            return self.node("Pad", [source], [name], pads=every)
        return self.node("Pad", [source, self.integers(every, f"{name}.pads")], [name])

    def sizes(self, wanted: Sequence[Size], name: str, scalar: bool = False) -> str:
        """Write the nodes that compute these sizes from the shapes of the inputs; returns the name of the vector."""
        parts = [self._size(item, f"{name}.{index}") for index, item in enumerate(wanted)]
        if scalar:
            return self.node("Reshape", [parts[0], self.integers([], f"{name}.rank")], [self.fresh(name)])
        return self.node("Concat", parts, [self.fresh(name)], axis=0)

    def _size(self, size: Size, name: str) -> str:
        parts = []
        for index, times in size.terms:
            symbol = self.symbols[index]
            shape = self.node("Shape", [self.inputs[symbol.input]], [self.fresh(f"{name}.shape")])
            part = self.node("Gather", [shape, self.integers([symbol.axis], f"{name}.axis")], [self.fresh(f"{name}.of")])
            if times != 1:
                part = self.node("Mul", [part, self.integers([times], f"{name}.times")], [self.fresh(f"{name}.scaled")])
            parts.append(part)
        if size.constant or not parts:
            parts.append(self.integers([size.constant], f"{name}.constant"))
        total = parts[0]
        for part in parts[1:]:
            total = self.node("Add", [total, part], [self.fresh(f"{name}.sum")])
        return total


@dataclass(frozen=True)
class Call:
    """One use of a module: what it reads and makes, with shapes in each probe."""

    sheet: Sheet
    name: str
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes_in: tuple[Shapes, ...]
    shapes_out: tuple[Shapes, ...]
    origin: Origin | None = None

    def input(self, index: int = 0) -> str:
        """The name of an input."""
        return self.sheet.plain(self.names[index])

    def write(self, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Write one node that makes all outputs."""
        self.sheet.node(op, inputs, self.outputs, self.name, **attributes)

    def again(self, template: Template) -> None:
        """Write an imported node again, on this call's inputs."""
        proto = onnx.NodeProto()
        proto.CopyFrom(template.proto)
        names = [self._slot(slot, proto.input[index]) for index, slot in enumerate(template.slots)]
        del proto.input[:], proto.output[:]
        proto.input.extend(names)
        proto.output.extend(self.outputs)
        self.sheet.proto(proto, self.name)

    def weight(self, tensor: Tensor, parameter: str, form: str = "", change: Callable[[Array], Array] | None = None) -> str:
        """Store a parameter under the name it had in the original, where it had one."""
        known = self.origin.weights.get(parameter) if self.origin else None
        return self.sheet.parameter(tensor, known or f"{self.name}.{parameter}", form, change)

    def _slot(self, slot: int | Array | None, hint: str) -> str:
        if slot is None:
            return ""
        return self.input(slot) if isinstance(slot, int) else self.sheet.constant(slot, hint)


def fixed(shapes: Shapes, what: str) -> tuple[int, ...]:
    """The shape, where it is the same in every probe. Raises Unsupported."""
    if any(shape != shapes[0] for shape in shapes):
        raise Unsupported(f"{what}: the size changes with the input's, which has no ONNX form here")
    return shapes[0]


def _unique(hint: str, taken: set[str]) -> str:
    name, count = hint, 0
    while name in taken:
        count += 1
        name = f"{hint}_{count}"
    taken.add(name)
    return name
