"""What a multiplying node multiplies its weights with, as rows: the patches of a convolution, the vectors of a matrix product.

With weights as (groups, channels, K) rows and data as (groups, rows, K), every such node is one matrix product a group. Pure
arithmetic; padding is zero, as the operators define it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view

from edge_compress_quantize.wiring import attribute

Array = np.ndarray[Any, Any]


def weight_rows(node: onnx.NodeProto, weights: Array, axis: int) -> Array:
    """``weights`` as (groups, output channels a group, K)."""
    groups = attribute(node, "group", 1) if node.op_type == "Conv" else 1
    channels = weights.shape[axis]
    return np.moveaxis(weights, axis, 0).reshape(groups, channels // groups, -1)


def from_rows(rows: Array, weights: Array, axis: int) -> Array:
    """The inverse of ``weight_rows``: rows in the shape of ``weights``."""
    moved = np.moveaxis(weights, axis, 0).shape
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))


def data_rows(node: onnx.NodeProto, kernel: tuple[int, ...], values: Array, most: int) -> Array:
    """The data as (groups, rows, K), about ``most`` rows evenly picked. ``kernel``: spatial shape of a convolution's weights."""
    if node.op_type == "Conv":
        return _patches(node, kernel, values, most)
    flat = values.reshape(-1, values.shape[-1])
    return flat[:: math.ceil(len(flat) / max(1, most))][None]


def _patches(node: onnx.NodeProto, kernel: tuple[int, ...], values: Array, most: int) -> Array:
    rank = len(kernel)
    strides, dilations = (attribute(node, name, [1] * rank) for name in ("strides", "dilations"))
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True))
    padded = np.pad(values, [(0, 0), (0, 0), *_pads(node, values.shape[2:], reach, strides)])
    windows = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    windows = _strided(windows, [0] * 2 * rank, [*strides, *dilations])
    positions = len(values) * math.prod(windows.shape[2 : 2 + rank])
    sparse = math.ceil((positions / max(1, most)) ** (1 / rank))
    # From the middle, so that a picked border stands for no more than it is.
    starts = [min(sparse, size) // 2 for size in windows.shape[2 : 2 + rank]]
    windows = _strided(windows, [*starts, *[0] * rank], [sparse] * rank + [1] * rank)
    return _grouped(windows, attribute(node, "group", 1), rank)


def _strided(windows: Array, starts: list[int], steps: list[int]) -> Array:
    """Every so many of each axis after the channels, from a start."""
    picked = [slice(start, None, step) for start, step in zip(starts, steps, strict=True)]
    return windows[(slice(None), slice(None), *picked)]


def _grouped(windows: Array, groups: int, rank: int) -> Array:
    """(N, C, positions…, kernel…) as (groups, N * positions, C / groups * kernel)."""
    parts = windows.reshape(windows.shape[0], groups, windows.shape[1] // groups, *windows.shape[2:])
    positions = tuple(range(3, 3 + rank))
    order = (1, 0, *positions, 2, *range(3 + rank, 3 + 2 * rank))
    moved = parts.transpose(order)
    return moved.reshape(groups, math.prod(moved.shape[1 : 2 + rank]), -1)


def _pads(node: onnx.NodeProto, sizes: tuple[int, ...], reach: tuple[int, ...], strides: list[int]) -> list[tuple[int, int]]:
    """(before, after) for each spatial axis."""
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        pads = attribute(node, "pads", [0] * 2 * len(reach)) if mode == "NOTSET" else [0] * 2 * len(reach)
        return list(zip(pads[: len(reach)], pads[len(reach) :], strict=True))
    totals = [
        max(0, (math.ceil(size / step) - 1) * step + width - size)
        for size, width, step in zip(sizes, reach, strides, strict=True)
    ]
    small = [total // 2 for total in totals]
    large = [total - half for total, half in zip(totals, small, strict=True)]
    return list(zip(small, large, strict=True)) if mode == "SAME_UPPER" else list(zip(large, small, strict=True))
