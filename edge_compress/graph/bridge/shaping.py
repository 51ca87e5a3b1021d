"""Rules that move elements without changing them: reshape, transpose, join, cut, pad."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from edge_compress.graph.bridge.arithmetic import torch_type
from edge_compress.graph.bridge.modules import Expand, Reshape, Split, expand
from edge_compress.graph.bridge.rules import Plan, RefusedError, View, rule, whole

_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@rule("Reshape")
def reshape(view: View) -> Plan:
    """Relative to the input's axes where runs of axes match, by the given numbers where they do not."""
    seen = [item.reshape(-1).tolist() for item in view.value(1).probes] if view.value(1).known else []
    if not seen:
        raise RefusedError("the shape depends on values; expected it to follow from shapes")
    if view.attr("allowzero", 0) and 0 in seen[0]:
        raise RefusedError("an axis of size 0")
    before = view.shape()
    after = [before[axis] if size == 0 else size for axis, size in enumerate(seen[0])]
    free = [axis for axis, size in enumerate(seen[0]) if size == -1 or any(row[axis] != size for row in seen)]
    groups = None if view.value(0).known else _runs(before, after, free)
    return Plan(Reshape(groups)) if groups is not None else Plan(reshape_to, (0, 1), frozenset({1}))


def reshape_to(x: Tensor, target: Sequence[int]) -> Tensor:
    """ONNX's Reshape: 0 copies an axis."""
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(target)])


def _runs(
    before: Sequence[int], target: Sequence[int], free: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Runs of input axes with the sizes of the output axes they become, 0 for the one that follows; None: no such reading."""
    total, given = int(np.prod(before)), int(np.prod([size for size in target if size != -1]))
    if 0 in before or not given:
        return None
    after = [total // given if size == -1 else size for size in target]
    runs, left, right = [], 0, 0
    while left < len(before) or right < len(after):
        axes, sizes = [left] if left < len(before) else [], [right] if right < len(after) else []
        left, right = left + len(axes), right + len(sizes)
        while (a := int(np.prod([before[i] for i in axes]))) != (b := int(np.prod([after[i] for i in sizes]))):
            if a < b and left < len(before):
                axes.append(left)
                left += 1
            elif a > b and right < len(after):
                sizes.append(right)
                right += 1
            else:
                return None
        loose = [axis for axis in sizes if axis in free]
        if len(loose) > 1:
            return None
        follows = loose[0] if loose else next((axis for axis in reversed(sizes) if after[axis] != 1), sizes[-1] if sizes else -1)
        if axes or sizes:
            runs.append((tuple(axes), tuple(0 if axis == follows and axes else after[axis] for axis in sizes)))
    return runs


@rule("Flatten")
def flatten(view: View) -> Plan:
    """Flatten to a matrix."""
    rank = view.rank()
    axis = view.attr("axis", 1)
    axis = axis + rank if axis < 0 else axis
    return Plan(nn.Flatten(1)) if axis == 1 and rank > 1 else Plan(partial(flatten_at, axis=axis))


def flatten_at(x: Tensor, *, axis: int) -> Tensor:
    """To (product of the axes before, product of the axes from ``axis`` on)."""
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


@rule("Transpose")
def transpose(view: View) -> Plan:
    """Permute; by default all axes turned round."""
    return Plan(partial(torch.permute, dims=tuple(view.attr("perm", reversed(range(view.rank()))))))


@rule("Squeeze")
def squeeze(view: View) -> Plan:
    """Drop axes of size 1."""
    axes = view.either("axes", 1, "the axes")
    chosen = whole(axes, view.rank()) if axes is not None else [axis for axis, size in enumerate(view.shape()) if size == 1]
    return Plan(partial(torch.squeeze, dim=tuple(chosen)))


@rule("Unsqueeze")
def unsqueeze(view: View) -> Plan:
    """Put in axes of size 1, counted in the result."""
    axes = view.either("axes", 1, "the axes") or []
    return Plan(partial(put_axes, axes=tuple(sorted(whole(axes, view.rank() + len(axes))))))


def put_axes(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """Unsqueeze at each, in order."""
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


@rule("Expand")
def broadcast(view: View) -> Plan:
    """Axes that keep their size stay free."""
    target = view.constant(1)
    if target is None:
        return Plan(expand, (0, 1), frozenset({1}))
    shape, wanted = view.shape(), [int(size) for size in target.tolist()]
    offset = len(wanted) - len(shape)
    same = [offset <= axis and shape[axis - offset] == size for axis, size in enumerate(wanted)]
    return Plan(Expand([1 if kept else size for kept, size in zip(same, wanted, strict=True)]))


@rule("Tile")
def tile(view: View) -> Plan:
    """Repeat along each axis."""
    return Plan(repeat, (0, 1), frozenset({1}))


def repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    """Tensor.repeat."""
    return x.repeat(*times)


@rule("Concat")
def concat(view: View) -> Plan:
    """torch.cat."""
    return Plan(partial(join, axis=view.attr("axis") % view.rank()), tuple(range(len(view.values))))


def join(*inputs: Tensor, axis: int) -> Tensor:
    """torch.cat of the arguments."""
    return torch.cat(inputs, axis)


@rule("Split")
def split(view: View) -> Plan:
    """Equal parts stay equal when the axis changes."""
    axis = view.attr("axis", 0) % view.rank()
    whole_size, count = view.shape()[axis], len(view.node.outputs)
    part = -(-whole_size // count)
    equal = [part] * (count - 1) + [whole_size - part * (count - 1)]
    return Plan(Split(view.either("split", 1, "the sizes of the parts") or equal, axis))


@rule("Slice")
def cut(view: View) -> Plan:
    """Starts, ends, axes and steps from attributes or inputs; they may follow from sizes."""
    if view.opset < 10:
        starts, ends = view.attr("starts"), view.attr("ends")
        return Plan(partial(slice_along, starts=starts, ends=ends, axes=view.attr("axes", list(range(len(starts))))))
    axes = view.numbers(3, "the axes") if view.has(3) else None
    steps = view.numbers(4, "the steps") if view.has(4) else None
    return Plan(partial(slice_along, axes=axes, steps=steps), (0, 1, 2), frozenset({1, 2}))


def slice_along(
    x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None, steps: Sequence[int] | None = None
) -> Tensor:
    """ONNX's Slice, backwards too."""
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (axes[index] if axes else index) % x.dim()
        step = steps[index] if steps else 1
        if step > 0:
            cuts = [slice(None)] * axis + [slice(start, None if end > 2**31 else end, step)]
            x = x[tuple(cuts)]
        else:
            rows = range(x.shape[axis])[start : None if end < -(2**31) else end : step]
            x = x.index_select(axis, torch.tensor(list(rows), dtype=torch.int64, device=x.device))
    return x


@rule("Pad")
def pad(view: View) -> Plan:
    """Constant, reflecting, repeating or circular."""
    mode = _MODES.get(view.attr("mode", "constant"))
    if mode is None:
        raise RefusedError(f"mode {view.attr('mode')}")
    value = float(view.need(2, "the value")) if view.has(2) else view.attr("value", 0.0)
    pads = view.either("pads", 1, "the pads") or []
    axes = view.numbers(3, "the axes") if view.has(3) else list(range(view.rank()))
    half, rank = len(pads) // 2, view.rank()
    around = {axis % rank: (pads[index], pads[half + index]) for index, axis in enumerate(axes)}
    first = min((axis for axis, both in around.items() if any(both)), default=rank - 1)
    order = [side for axis in reversed(range(first, rank)) for side in around.get(axis, (0, 0))]
    return Plan(partial(F.pad, pad=order, mode=mode, value=value if mode == "constant" else None))


@rule("DepthToSpace")
def depth_to_space(view: View) -> Plan:
    """PixelShuffle for the mode CRD."""
    block = view.attr("blocksize")
    return Plan(nn.PixelShuffle(block)) if view.attr("mode", "DCR") == "CRD" else Plan(partial(depth_out, block=block))


def depth_out(x: Tensor, *, block: int) -> Tensor:
    """DepthToSpace in the mode DCR."""
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


@rule("SpaceToDepth")
def space_to_depth(view: View) -> Plan:
    """The blocks first, then the channels."""
    return Plan(partial(space_in, block=view.attr("blocksize")))


def space_in(x: Tensor, *, block: int) -> Tensor:
    """SpaceToDepth."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


@rule("Trilu")
def triangle(view: View) -> Plan:
    """The upper or lower triangle."""
    diagonal = int(view.need(1, "the diagonal")) if view.has(1) else 0
    return Plan(partial(torch.triu if view.attr("upper", 1) else torch.tril, diagonal=diagonal))


@rule("GatherElements")
def gather_elements(view: View) -> Plan:
    """torch.gather."""
    return Plan(partial(pick_elements, axis=view.attr("axis", 0) % view.rank()), (0, 1))


def pick_elements(data: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    """Indices counted from the end where negative."""
    return data.gather(axis, torch.where(indices < 0, indices + data.shape[axis], indices))


@rule("ConstantOfShape")
def constant_of_shape(view: View) -> Plan:
    """A tensor of one value."""
    value = view.attr("value")
    filled = numpy_helper.to_array(value).reshape(-1)[0].item() if value is not None else 0.0
    dtype = torch_type(value.data_type) if value is not None else torch.float32
    return Plan(partial(full, value=filled, dtype=dtype), (0,), frozenset({0}))


def full(shape: Sequence[int], *, value: Any, dtype: torch.dtype) -> Tensor:
    """torch.full."""
    return torch.full(tuple(shape), value, dtype=dtype)


@rule("Range")
def count(view: View) -> Plan:
    """torch.arange over whole numbers."""
    if view.value(0).probes[0].is_floating_point():
        raise RefusedError("steps that are not whole numbers")
    return Plan(partial(numbers, dtype=view.value(0).probes[0].dtype), (0, 1, 2), frozenset({0, 1, 2}))


def numbers(start: Sequence[int], limit: Sequence[int], step: Sequence[int], *, dtype: torch.dtype) -> Tensor:
    """torch.arange."""
    return torch.arange(start[0], limit[0], step[0], dtype=dtype)
