"""What an earlier artifact was scaled by, read from its graph, and which of it lies where in a new one.

Targets give tensors other names, widen weights and lay them out anew, so nothing is found by name: the places where values
become integers are taken in the order of the graph, each with the operator beside it, and the two orders are laid side by side.
A place that is matched wrongly does no harm: ``keeping`` takes no scale that does not fit.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray[Any, Any]

MULTIPLYING = ("Conv", "Gemm", "MatMul")
FED = "input"
"""stands for the operator where the model's own input becomes integers"""


@dataclass(frozen=True, eq=False)
class Place:
    """Where values are on a grid. ``op``: what multiplies these weights, or what makes this result."""

    op: str
    weights: bool
    scale: Array
    """float32, shape () or (channels,)"""
    zero_point: Array
    integers: Array | None = None
    """of weights, where they are stored as they are"""

    def over(self, channels: int) -> Place:
        """The same place over fewer channels, where its scales repeat after so many."""
        if channels < 2 or not _repeats(self.scale, channels):
            return self
        return replace(self, scale=self.scale[:channels], zero_point=self.zero_point[:channels])

    @property
    def kind(self) -> tuple[str, bool, int]:
        """What two versions of a place have in common."""
        return self.op, self.weights, period(self.scale)


def read_places(path: Path) -> list[Place]:
    """The places of an artifact in the order of its graph; none where it has no integers. Raises ValueError for no ONNX file."""
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's own class depends on its build
        raise ValueError(f"the earlier artifact cannot be read: {error}") from error
    return list(_Reader(graph).places())


def laid_beside(mine: Sequence[Place], earlier: Sequence[Place]) -> list[Place | None]:
    """For each of ``mine`` the earlier place that it was; None where it has none."""
    found: list[Place | None] = [None] * len(mine)
    matcher = difflib.SequenceMatcher(None, [one.kind for one in mine], [one.kind for one in earlier], autojunk=False)
    for block in matcher.get_matching_blocks():
        found[block.a : block.a + block.size] = earlier[block.b : block.b + block.size]
    return found


def period(scale: Array) -> int:
    """After how many channels scales repeat: targets that make several pixels in one go have them several times."""
    return next((length for length in range(2, scale.size // 2 + 1) if _repeats(scale, length)), scale.size)


def _repeats(scale: Array, length: int) -> bool:
    times, left = divmod(scale.size, length)
    return not left and np.array_equal(np.tile(scale[:length], times), scale)


class _Reader:
    """What must be known of a graph to find its places."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._stored = {item.name: item for item in graph.initializer}
        self._maker = {name: node for node in graph.node for name in node.output if name}

    def places(self) -> Iterator[Place]:
        seen: set[str] = set()
        for node in self._graph.node:
            if node.op_type in MULTIPLYING and node.input[1] not in seen:
                seen.add(node.input[1])
                yield from self._weights(node)
            elif node.op_type == "QuantizeLinear":
                maker = self._maker.get(node.input[0])
                yield from self._place(node, FED if maker is None else maker.op_type, weights=False)

    def _weights(self, node: onnx.NodeProto) -> Iterator[Place]:
        made = self._maker.get(node.input[1])
        if made is None or made.op_type != "DequantizeLinear":
            return
        source = self._source(made.input[0])
        if source is not None:
            yield from self._place(made, node.op_type, weights=True, integers=source)

    def _place(self, node: onnx.NodeProto, op: str, *, weights: bool, integers: Array | None = None) -> Iterator[Place]:
        if len(node.input) < 3 or not all(name in self._stored for name in node.input[1:3]):
            return
        scale, zero_point = (numpy_helper.to_array(self._stored[name]) for name in node.input[1:3])
        if scale.shape == zero_point.shape and scale.ndim <= 1:
            yield Place(op, weights, scale, zero_point, integers)

    def _source(self, name: str) -> Array | None:
        """The stored integers behind a tensor, however they are laid out before they are used; None: they are not stored."""
        for _ in range(len(self._maker)):
            if name in self._stored:
                return numpy_helper.to_array(self._stored[name])
            maker = self._maker.get(name)
            if maker is None or maker.op_type not in ("Concat", "Pad", "Reshape", "Transpose"):
                return None
            name = maker.input[0]
        return None
