"""Which nodes of a graph run on integers, and which tensors share a grid: decided from the graph alone, changing nothing.

Multiplying nodes pull integers in; joining nodes take part when all they read is integer and somebody after them multiplies or
joins; moving nodes take part wherever integers arrive, and let an integer be made before them rather than after (a transposed
input, say). So integers run on from one multiplication to the next, and nothing is rounded that no integer kernel uses.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import onnx

from edge_compress_quantize.rules import Role, bounds, moved_inputs, operands, role
from edge_compress_quantize.wiring import Wiring


@dataclass(frozen=True)
class Placement:
    """The decision. Nodes are known by their first output."""

    roles: dict[str, Role]
    """nodes that run on integers"""
    emitted: frozenset[str]
    """tensors that integer nodes make"""
    wanted: frozenset[str]
    """float tensors that are quantised where they are made"""
    root: dict[str, str]
    """integer tensor -> the tensor whose grid it shares (itself where it has its own)"""
    observe: dict[str, str]
    """root -> the tensor whose values decide the range of its grid"""

    @property
    def roots(self) -> list[str]:
        """Every tensor with a grid of its own, in a fixed order."""
        return list(self.observe)


@dataclass
class _Draft:
    """The growing sets while ``place`` iterates."""

    wiring: Wiring
    candidates: dict[str, Role]
    barred: set[str]
    roles: dict[str, Role] = field(default_factory=dict)
    emitted: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)

    def integer(self, name: str) -> bool:
        return name in self.emitted or name in self.wanted


def place(wiring: Wiring, exclude: Collection[str] = (), floats: Collection[str] = ()) -> Placement:
    """Decide for a whole graph. ``exclude`` holds node names, or names of tensors they make, that stay float; ``floats`` first
    outputs alone, for in some files a node has the name of another one's tensor."""
    candidates = {key: kind for key, kind in _candidates(wiring, exclude).items() if key not in floats}
    barred: set[str] = set()
    while True:
        draft = _grow(_Draft(wiring, candidates, barred))
        useless = _useless_joins(draft)
        if not useless:
            return _finish(draft)
        barred |= useless


def _candidates(wiring: Wiring, exclude: Collection[str]) -> dict[str, Role]:
    found = {}
    for node in wiring.graph.node:
        if node.name in exclude or any(name in exclude for name in node.output):
            continue
        kind = role(node, wiring)
        if kind is not None:
            found[node.output[0]] = kind
    return found


def _grow(draft: _Draft) -> _Draft:
    """Let the sets grow until nothing changes; they never shrink, so this ends."""
    for node in draft.wiring.graph.node:
        if draft.candidates.get(node.output[0]) is Role.MULTIPLY:
            _admit(node, draft, [node.input[0]])
    before = -1
    while before != len(draft.roles):
        before = len(draft.roles)
        for node in draft.wiring.graph.node:
            key = node.output[0]
            if key not in draft.roles and key not in draft.barred and _may_join(node, draft):
                _admit(node, draft, [name for name in moved_inputs(node) if name not in draft.wiring.constants])
    return draft


def _admit(node: onnx.NodeProto, draft: _Draft, reads: list[str]) -> None:
    kind = draft.candidates[node.output[0]]
    draft.roles[node.output[0]] = kind
    draft.wanted.update(name for name in reads if name not in draft.emitted)
    if kind is not Role.MULTIPLY or node.op_type == "Conv":
        draft.emitted.update(filter(None, node.output))
        draft.wanted.difference_update(node.output)


def _may_join(node: onnx.NodeProto, draft: _Draft) -> bool:
    kind = draft.candidates.get(node.output[0])
    reads = [name for name in moved_inputs(node) if name not in draft.wiring.constants]
    if kind is Role.JOIN:
        return bool(reads) and all(draft.integer(name) for name in reads)
    if kind is Role.MOVE and reads:
        return reads[0] in draft.emitted or _wanted_everywhere(node, draft)
    return False


def _wanted_everywhere(node: onnx.NodeProto, draft: _Draft) -> bool:
    """Whether all that reads a moving node wants integers, so that they may as well be made before it.

    A bound stays behind a float tensor: the range after it is the narrower one.
    """
    if bounds(node, draft.wiring) is not None:
        return False
    outputs = [name for name in node.output if name]
    return all(name in draft.wanted and _read_by_integers_only(name, draft) for name in outputs)


def _read_by_integers_only(name: str, draft: _Draft) -> bool:
    wiring = draft.wiring
    inside = name not in wiring.outputs and name not in wiring.captured
    return inside and all(reader.output[0] in draft.roles for reader in wiring.readers[name])


def _useless_joins(draft: _Draft) -> set[str]:
    """Joining nodes after which nothing multiplies or joins: integers would cost accuracy there and save nothing."""
    return {key for key, kind in draft.roles.items() if kind is Role.JOIN and not _leads_on(key, draft)}


def _leads_on(name: str, draft: _Draft) -> bool:
    for reader in draft.wiring.readers[name]:
        kind = draft.roles.get(reader.output[0])
        if kind in (Role.MULTIPLY, Role.JOIN):
            return True
        if kind is Role.MOVE and any(_leads_on(output, draft) for output in reader.output if output):
            return True
    return False


def _finish(draft: _Draft) -> Placement:
    root: dict[str, str] = {}
    for name in (*draft.wiring.inputs, *(name for node in draft.wiring.graph.node for name in node.output)):
        if name in draft.wanted:
            root[name] = name
        elif name in draft.emitted:
            maker = draft.wiring.producer[name]
            moved = draft.roles[maker.output[0]] is Role.MOVE
            root[name] = root[maker.input[0]] if moved else name
    observe = {name: _observed(name, draft) for name in dict.fromkeys(root.values())}
    return Placement(draft.roles, frozenset(draft.emitted), frozenset(draft.wanted), root, observe)


def _observed(name: str, draft: _Draft) -> str:
    """The tensor after the bounds that are a root's only readers: what they cut off needs no integers."""
    reader = draft.wiring.only_reader(name)
    while reader is not None and draft.roles.get(reader.output[0]) is Role.MOVE and bounds(reader, draft.wiring) is not None:
        name = reader.output[0]
        reader = draft.wiring.only_reader(name)
    return name


def integer_share(wiring: Wiring, placement: Placement) -> float:
    """Share of the weights of multiplying nodes that integers multiply, 0 to 1; 0 where there are none."""
    weights = {node.output[0]: found.weights.size for node in wiring.graph.node if (found := operands(node, wiring))}
    total = sum(weights.values())
    return sum(size for key, size in weights.items() if key in placement.roles) / total if total else 0.0
