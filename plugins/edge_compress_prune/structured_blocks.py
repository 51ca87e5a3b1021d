"""Which residual blocks of a model may go whole, and what the model is without them: its depth, where channels are its width.

A block is what lies between a tensor and the Add that brings it back: without it the tensor goes on as it is. Source: Veit et al.
2016 (arXiv:1605.06431), residual networks lose little with single blocks. Small layers cost a runtime more than their arithmetic
says, so that a block less is often faster than thinner blocks. What blocks are worth is measured on the answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor

from edge_compress.graph.bridge.answers import Answer, difference
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.graph.macs import node_macs
from edge_compress.graph.shapes import TensorType, tensor_types
from edge_compress.graph.tidy import tidied

_ELEMENT = 60.0
"""multiply-accumulates in the time that writing one number takes, as kernels for small layers ran on one core of decision 0003"""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU")


@dataclass(frozen=True)
class Block:
    """A residual block. ``end``: the tensor its Add makes; ``start``: the one that it adds to."""

    start: str
    end: str
    nodes: frozenset[str]
    """outputs of the nodes that go with it"""

    @property
    def name(self) -> str:
        """What the record calls it."""
        return self.end


def find_blocks(model: onnx.ModelProto) -> list[Block]:
    """The residual blocks of a tidy model, in order: those with layers inside that are nobody else's."""
    types, graph = tensor_types(model), model.graph
    maker = {name: node for node in graph.node for name in node.output if name}
    reach, told = _ancestors(graph), {item.name for item in graph.output}
    found = []
    for node in graph.node:
        if node.op_type != "Add" or node.output[0] in told:
            continue
        for start, branch in (tuple(node.input), tuple(reversed(node.input))):
            if branch in maker and start in reach[branch] and _same(types, start, node.output[0]):
                block = Block(start, node.output[0], _gone(graph, start, node.output[0]))
                if any(maker[name].op_type in _WEIGHTED for name in block.nodes):
                    found.append(block)
    return found


def without(model: onnx.ModelProto, block: Block) -> onnx.ModelProto:
    """A tidy copy in which what read the block's end reads its start."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            if name == block.end:
                node.input[index] = block.start
    return tidied(copy)


def drop_blocks(
    model: onnx.ModelProto,
    share: float,
    batches: Sequence[Sequence[Tensor]],
    told: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    threads: int = 1,
) -> tuple[onnx.ModelProto, list[str]]:
    """The model without ``share`` of its residual blocks (at least one), and a line for each that went.

    ``told``: the original's answers to ``batches``. One at a time goes the block that moves the answers least for the
    time it costs. Raises ValueError where there is none.
    """
    model = tidied(model)
    costs, count = _macs(model, _ELEMENT), len(find_blocks(model))
    if not count:
        raise ValueError("no residual block can go: expected an Add of a tensor and what layers make of it, of the same shape")
    lines: list[str] = []
    for _ in range(max(1, min(count, round(share * count)))):
        tried = [
            (_harm(model, block, batches, told, answers, threads) / _cost(block, costs), block) for block in find_blocks(model)
        ]
        if not tried:
            break
        price, block = min(tried, key=lambda pair: pair[0])
        model = without(model, block)
        lines.append(f"block before {block.name} goes whole: answers move by {price * _cost(block, costs):.3f}")
    return model, lines


def _harm(
    model: onnx.ModelProto,
    block: Block,
    batches: Sequence[Sequence[Tensor]],
    told: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    threads: int,
) -> float:
    """How far the answers move from the original's, see ``Answer.difference``."""
    left = Teacher(without(model, block), threads=threads)
    moved = [float(difference(answers, left.answer(batch)[0], wanted)) for batch, wanted in zip(batches, told, strict=True)]
    return sum(moved) / len(moved) if torch.isfinite(torch.tensor(moved)).all() else float("inf")


def arithmetic_of(model: onnx.ModelProto) -> float:
    """Multiply-accumulates of one sample."""
    return sum(_macs(model).values())


def _macs(model: onnx.ModelProto, element: float = 0.0) -> dict[str, float]:
    """Multiply-accumulates by name of a node's first output. ``element``: what each number it writes counts as beside them."""
    types = tensor_types(model)

    def shape_of(name: str) -> tuple[int, ...] | None:
        return types[name].shape if name in types else None

    return {
        node.output[0]: node_macs(node, shape_of) + element * math.prod(shape_of(node.output[0]) or ())
        for node in model.graph.node
    }


def _cost(block: Block, costs: Mapping[str, float]) -> float:
    return max(1.0, sum(costs.get(name, 0.0) for name in block.nodes))


def _gone(graph: onnx.GraphProto, start: str, end: str) -> frozenset[str]:
    """Outputs of the nodes that nobody needs once what read ``end`` reads ``start``."""
    needed = {item.name for item in graph.output}
    gone = set()
    for node in reversed(graph.node):
        if any(name in needed for name in node.output if name):
            needed.update(start if name == end else name for name in node.input)
        else:
            gone.add(node.output[0])
    return frozenset(gone)


def _ancestors(graph: onnx.GraphProto) -> dict[str, set[str]]:
    """Each tensor -> those it is made from."""
    found: dict[str, set[str]] = {}
    for node in graph.node:
        above = {name for name in node.input if name}
        for name in list(above):
            above |= found.get(name, set())
        found.update((name, above) for name in node.output if name)
    return found


def _same(types: Mapping[str, TensorType], start: str, end: str) -> bool:
    return start in types and types[start] == types.get(end)
