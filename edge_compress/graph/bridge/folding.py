"""What a node gives when everything it reads is known before the model runs: a constant, or numbers that follow the sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from edge_compress.graph.bridge.rules import RULES, View
from edge_compress.graph.bridge.source import Node
from edge_compress.graph.bridge.values import Symbol, Value, as_sizes

_SIDES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"})
"""operators that show a weight from another side"""


def folded(
    node: Node,
    given: tuple[Value | None, ...],
    view: Callable[[tuple[Value | None, ...]], View],
    symbols: Sequence[Symbol],
) -> dict[str, Value] | None:
    """The outputs by name, or None where they must be computed while the model runs."""
    known = [item for item in given if item is not None]
    count = len(known[0].probes) if known else len(symbols) + 1 + (len(symbols) > 1)
    constant = all(item.constant is not None for item in known)
    rows = [_evaluate(node, given, view, probe) for probe in range(1 if constant else count)]
    stored = is_seen_from_another_side(node, known) and known[0].stored
    found = {}
    for index, name in enumerate(node.outputs):
        probes = tuple(row[index] for row in rows) * (count if constant else 1)
        value = Value(name, probes, known=True, stored=stored)
        if value.constant is None and as_sizes(probes, symbols) is None:
            return None
        found[name] = value
    return found


def is_seen_from_another_side(node: Node, known: Sequence[Value]) -> bool:
    """Whether the node gives the elements of its first input, none changed."""
    return node.op in _SIDES and bool(known)


def _evaluate(
    node: Node, given: tuple[Value | None, ...], view: Callable[[tuple[Value | None, ...]], View], probe: int
) -> tuple[Tensor, ...]:
    seen = tuple(Value(item.name, (item.probes[probe],), known=True, stored=item.stored) if item else None for item in given)
    plan = RULES[node.op](view(seen))
    if isinstance(plan.module, nn.Module):
        plan.module.eval()
    result = plan.module(*(_argument(seen[index], index in plan.sizes) for index in plan.args))
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _argument(value: Value | None, sized: bool) -> Any:
    if value is None:
        return None
    return [int(item) for item in value.probes[0].reshape(-1).tolist()] if sized else value.probes[0]
