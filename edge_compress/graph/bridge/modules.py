"""Modules that imported graphs are made of where torch has no layer of its own. None holds anything that could be trained.

Each writes itself back to ONNX (``emit_onnx``), by the shapes its tensors have by then: a Reshape follows pruned channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.sheet import Call, Template, fixed
from edge_compress.graph.bridge.values import Size, Symbol, as_sizes


class Operator(nn.Module):
    """One ONNX node computed by a function of its run-time inputs."""

    def __init__(self, compute: Callable[..., Any], template: Template) -> None:
        super().__init__()
        self.compute, self.template = compute, template

    def forward(self, *inputs: Any) -> Any:
        """Whatever the function gives."""
        return self.compute(*inputs)

    def extra_repr(self) -> str:
        """The operator's name."""
        return str(self.template.proto.op_type)

    def emit_onnx(self, call: Call) -> None:
        """The node again."""
        call.again(self.template)


class EdgePad(nn.Module):
    """Zeros around the spatial axes of a convolution's input, unlike on its two sides. Written as the convolution's own pads."""

    def __init__(self, pads: Sequence[int]) -> None:
        super().__init__()
        self.pads = tuple(pads)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same with larger spatial axes."""
        half = len(self.pads) // 2
        order = [side for axis in reversed(range(half)) for side in (self.pads[axis], self.pads[half + axis])]
        return F.pad(x, order)

    def emit_onnx(self, call: Call) -> None:
        """Nothing yet: the next layer takes the pads, or ``Sheet.plain`` writes them."""
        call.sheet.padded[call.outputs[0]] = (call.input(), self.pads)


class Measure(nn.Module):
    """Sizes that follow from the shapes of the model's inputs: a list of whole numbers, or a tensor of them."""

    def __init__(self, sizes: Sequence[Size], symbols: Sequence[Symbol], *, tensor: bool, scalar: bool) -> None:
        super().__init__()
        self.sizes, self.tensor, self.scalar = tuple(sizes), tensor, scalar
        self.axes = tuple((item.input, item.axis) for item in symbols)

    def forward(self, *inputs: Tensor) -> Any:
        """Takes all inputs of the model."""
        known = [inputs[index].shape[axis] for index, axis in self.axes]
        numbers = [size.constant + sum(times * known[index] for index, times in size.terms) for size in self.sizes]
        if not self.tensor:
            return numbers
        return torch.tensor(numbers[0] if self.scalar else numbers, device=inputs[0].device)

    def emit_onnx(self, call: Call) -> None:
        """Shape, Gather, Mul, Add and Concat."""
        made = call.sheet.sizes(self._present(call.sheet.symbols), call.outputs[0] + ".sizes", self.scalar)
        call.write("Identity", [made])

    def _present(self, symbols: Sequence[Symbol]) -> list[Size]:
        """The sizes in terms of the symbols the written model has: an axis that it fixes is a number there."""
        place = {(item.input, item.axis): index for index, item in enumerate(symbols)}
        missing = [axis for axis in self.axes if axis not in place]
        if missing and any(self.axes[index] in missing for size in self.sizes for index, _ in size.terms):
            raise Unsupported("a size depends on an axis that the original fixes")
        return [
            Size(size.constant, tuple((place[self.axes[index]], times) for index, times in size.terms)) for size in self.sizes
        ]


class Reshape(nn.Module):
    """Reshape read relative to its input: runs of input axes become runs of output axes, and one axis of each run follows.

    ``groups``: (input axes, output axes, sizes of the output axes with 0 for the one that follows). So ``[-1, 48]`` after a map
    of 12 x 2 x 2 is "the batch stays, the rest is flattened", for any batch and any number of channels.
    """

    def __init__(self, groups: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        super().__init__()
        self.groups = tuple(groups)

    def forward(self, x: Tensor) -> Tensor:
        """A view where possible."""
        shape: list[Any] = []
        for axes, sizes in self.groups:
            whole = math.prod([x.shape[axis] for axis in axes])
            rest = math.prod(size for size in sizes if size)
            shape += [size or whole // rest for size in sizes]
        return x.reshape(shape)

    def emit_onnx(self, call: Call) -> None:
        """Reshape to a constant where at most one axis is free, or those before it stay in place."""
        emit_reshape(call)


def emit_reshape(call: Call) -> None:
    """Write Reshape by the shapes alone."""
    before, after = call.shapes_in[0], call.shapes_out[0]
    rank = len(after[0])
    free = [axis for axis in range(rank) if len({shape[axis] for shape in after}) > 1]
    kept = [
        axis for axis in free if axis < len(before[0]) and all(b[axis] == a[axis] for b, a in zip(before, after, strict=True))
    ]
    moved = [axis for axis in free if axis not in kept]
    target = list(after[0])
    if len(free) == 1:
        target[free[0]] = -1
    elif len(moved) <= 1:
        target = [0 if axis in kept else -1 if axis in moved else size for axis, size in enumerate(target)]
    else:
        sizes = as_sizes([torch.tensor(shape) for shape in after], call.sheet.symbols)
        if sizes is None:
            raise Unsupported(f"{call.name}: more than one axis of the result is free")
        call.write("Reshape", [call.input(), call.sheet.sizes(sizes, f"{call.name}.shape")])
        return
    call.write("Reshape", [call.input(), call.sheet.integers(target, f"{call.name}.shape")])


class Split(nn.Module):
    """Parts along an axis: equal ones whatever the axis has become, or of the sizes given."""

    def __init__(self, sizes: Sequence[int], axis: int) -> None:
        super().__init__()
        self.sizes, self.axis = tuple(sizes), axis
        self.equal = len(set(sizes)) == 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """As many parts as there are sizes."""
        parts: tuple[Tensor, ...] = x.split(x.shape[self.axis] // len(self.sizes) if self.equal else list(self.sizes), self.axis)
        return parts

    def emit_onnx(self, call: Call) -> None:
        """Split with the sizes the parts have by now."""
        if self.equal and len({shape[self.axis] for shape in call.shapes_out[0]}) > 1:
            extra = {"num_outputs": len(self.sizes)} if call.sheet.opset >= 18 else {}
            call.write("Split", [call.input()], axis=self.axis, **extra)
            return
        sizes = [fixed(tuple((shape[self.axis],) for shape in part), call.name)[0] for part in call.shapes_out]
        if call.sheet.opset < 13:
            call.write("Split", [call.input()], axis=self.axis, split=sizes)
        else:
            call.write("Split", [call.input(), call.sheet.integers(sizes, f"{call.name}.split")], axis=self.axis)


class Expand(nn.Module):
    """Broadcast to a constant shape, in which 1 stands for axes that stay as they are."""

    def __init__(self, target: Sequence[int]) -> None:
        super().__init__()
        self.target = tuple(target)

    def forward(self, x: Tensor) -> Tensor:
        """A view."""
        return expand(x, self.target)

    def emit_onnx(self, call: Call) -> None:
        """Expand."""
        call.write("Expand", [call.input(), call.sheet.constant(np.array(self.target, np.int64), f"{call.name}.shape")])


def expand(x: Tensor, target: Sequence[int]) -> Tensor:
    """ONNX's Expand: either side may broadcast."""
    return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(target)))
