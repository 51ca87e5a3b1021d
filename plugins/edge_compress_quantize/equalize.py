"""Scales channels between two layers so that all of them use their grid: the float network computes the same afterwards.

A channel that one layer makes and the next multiplies can be divided by s in the first and multiplied by s in the second,
wherever what lies between lets positive factors through; with s = sqrt(r1 / r2) both get the same largest weight. Source: Nagel
et al. 2019 (Data-Free Quantization, arXiv:1906.04721), section 4.1.

A bound above (ReLU6) lets only those channels be scaled that stay below it, before and after, with room to spare: the others keep
s = 1, where the paper drops the bound and with it some accuracy. How large channels become is measured elsewhere and handed in.
Does not apply where others read what lies between, or share its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edge_compress_quantize.rules import bounds, operands
from edge_compress_quantize.wiring import Wiring, attribute

Array = np.ndarray[Any, Any]

_ROUNDS = 3
"""times along the network; neighbours settle quickly"""
_LARGEST = 100.0
"""a channel is scaled by at most this, or its inverse: more would only move the trouble"""
_ROOM = 1.5
"""how far below a bound a channel must stay"""
_PASSES = frozenset(("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Flatten"))
"""operators that let positive factors through, channel by channel"""


@dataclass(frozen=True)
class Pair:
    """Two neighbouring layers with nobody else reading between them."""

    first: onnx.NodeProto
    second: onnx.NodeProto
    limit: float = float("inf")
    """what a bound between them cuts off above"""

    @property
    def bounded(self) -> str:
        """The tensor that the bound cuts off; empty where there is no bound."""
        return self.first.output[0] if np.isfinite(self.limit) else ""


def pairs(wiring: Wiring) -> list[Pair]:
    """Every pair of a graph that can be equalised, in graph order."""
    return [found for node in wiring.graph.node if (found := _pair(node, wiring)) is not None]


def equalize(graph: onnx.GraphProto, peaks: Mapping[str, Array]) -> int:
    """Edit the weights of ``graph`` in place; returns how many pairs were scaled. ``peaks`` has the largest value of each channel
    of every ``bounded`` tensor."""
    wiring = Wiring(graph)
    chosen = pairs(wiring)
    values = {name: _value(wiring, name) for pair in chosen for name in _constants(pair)}
    room = {pair.bounded: peaks[pair.bounded].astype(np.float64) for pair in chosen if pair.bounded}
    for _ in range(_ROUNDS):
        for pair in chosen:
            _balance(pair, wiring, values, room)
    for item in graph.initializer:
        if item.name in values:
            item.CopyFrom(numpy_helper.from_array(values[item.name].astype(np.float32), item.name))
    return len(chosen)


def _balance(pair: Pair, wiring: Wiring, values: dict[str, Array], room: dict[str, Array]) -> None:
    """Scale one pair once."""
    made, read = _made(pair.first, wiring, values), _read(pair.second, wiring, values)
    largest = [np.abs(part).max(axis=1) for part in (made, read)]
    used = (largest[0] > 0) & (largest[1] > 0)
    scale = np.sqrt(np.divide(largest[0], largest[1], out=np.ones(len(made)), where=used))
    scale = np.clip(scale, 1 / _LARGEST, _LARGEST)
    if pair.bounded:
        lowest = room[pair.bounded] * _ROOM / pair.limit
        scale = np.where(lowest < 1, np.maximum(scale, lowest), 1.0)
        room[pair.bounded] = room[pair.bounded] / scale
    made /= scale[:, None]
    read *= scale[:, None]
    if len(pair.first.input) > 2:
        values[pair.first.input[2]] /= scale.reshape(values[pair.first.input[2]].shape)
    _put_made(pair.first, wiring, values, made)
    _put_read(pair.second, wiring, values, read)


def _pair(node: onnx.NodeProto, wiring: Wiring) -> Pair | None:
    if operands(node, wiring) is None or not _alone(node, wiring):
        return None
    limit, reader = float("inf"), wiring.only_reader(node.output[0])
    while reader is not None and operands(reader, wiring) is None:
        between = _limit(reader, wiring)
        if between is None or len(reader.output) > 1:
            return None
        limit = min(limit, between)
        reader = wiring.only_reader(reader.output[0])
    if reader is None or not _alone(reader, wiring):
        return None
    pair = Pair(node, reader, limit)
    values = {name: _value(wiring, name) for name in _constants(pair)}
    fits = len(_made(node, wiring, values)) == len(_read(reader, wiring, values))
    return pair if fits and (not pair.bounded or node.op_type == "Conv") else None


def _limit(node: onnx.NodeProto, wiring: Wiring) -> float | None:
    """The bound above that a node between two layers sets; None where factors do not pass it."""
    if node.op_type in _PASSES:
        return float("inf")
    limits = bounds(node, wiring)
    return limits[1] if limits is not None and limits[0] in (0.0, -float("inf")) and limits[1] > 0 else None


def _alone(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether a layer's constants are its own and its bias has one entry a channel."""
    found = operands(node, wiring)
    assert found is not None
    names = [name for name in node.input[1:] if name]
    own = all(len(wiring.readers[name]) == 1 and name not in wiring.captured | wiring.outputs for name in names)
    whole = len(names) < 2 or _value(wiring, names[1]).size == found.weights.shape[found.axis]
    return own and whole and len(names) == len(node.input) - 1 and len(set(node.input)) == len(node.input)


def _constants(pair: Pair) -> list[str]:
    return [*pair.first.input[1:], pair.second.input[1]]


def _value(wiring: Wiring, name: str) -> Array:
    return numpy_helper.to_array(wiring.constants[name]).astype(np.float64)


def _made(node: onnx.NodeProto, wiring: Wiring, values: Mapping[str, Array]) -> Array:
    """Weights as (output channels, rest), a copy."""
    weights = values[node.input[1]]
    return np.moveaxis(weights, _axis(node, wiring), 0).reshape(weights.shape[_axis(node, wiring)], -1).copy()


def _put_made(node: onnx.NodeProto, wiring: Wiring, values: dict[str, Array], rows: Array) -> None:
    weights, axis = values[node.input[1]], _axis(node, wiring)
    values[node.input[1]] = np.moveaxis(rows.reshape(np.moveaxis(weights, axis, 0).shape), 0, axis)


def _read(node: onnx.NodeProto, wiring: Wiring, values: Mapping[str, Array]) -> Array:
    """Weights as (input channels, rest), a copy."""
    parts = _by_group(node, wiring, values).swapaxes(1, 2)
    return parts.reshape(parts.shape[0] * parts.shape[1], -1).copy()


def _put_read(node: onnx.NodeProto, wiring: Wiring, values: dict[str, Array], rows: Array) -> None:
    parts = _by_group(node, wiring, values)
    groups, made, read, rest = parts.shape
    weights, axis = values[node.input[1]], _axis(node, wiring)
    moved = rows.reshape(groups, read, made, rest).swapaxes(1, 2).reshape(np.moveaxis(weights, axis, 0).shape)
    values[node.input[1]] = np.moveaxis(moved, 0, axis)


def _by_group(node: onnx.NodeProto, wiring: Wiring, values: Mapping[str, Array]) -> Array:
    """Weights as (groups, output channels a group, input channels a group, kernel)."""
    weights = np.moveaxis(values[node.input[1]], _axis(node, wiring), 0)
    groups = attribute(node, "group", 1) if node.op_type == "Conv" else 1
    return weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)


def _axis(node: onnx.NodeProto, wiring: Wiring) -> int:
    found = operands(node, wiring)
    assert found is not None
    return found.axis
