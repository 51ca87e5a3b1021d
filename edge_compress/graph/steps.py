"""The steps of an exported program, in one list: what was computed without gradients is written out where it stands.

Operators are named here and not looked up; their arguments are read by ``operands``. Control flow is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_compress.errors import InvalidModel
from edge_compress.graph.operands import Ref, Value, name_of, only, renamed, value_of

MAX_STEPS = 100_000
MAX_DEPTH = 8
_TARGET = re.compile(r"torch\.ops\.aten\.[A-Za-z_]\w*\.[A-Za-z_]\w*|_operator\.[a-z_]+|math\.[a-z]+|torch\.sym_[a-z]+", re.ASCII)
_WITHOUT_GRADIENTS = "torch.ops.higher_order.wrap_with_set_grad_enabled"
"""what ``torch.no_grad()`` inside a model becomes: a graph of its own, called with what it reads"""


@dataclass(frozen=True)
class Step:
    """One operator: where it is found, its arguments by name, and the names of its results (a tuple where it gives a list)."""

    target: str
    arguments: tuple[tuple[str, Value], ...]
    results: tuple[str | tuple[str, ...] | None, ...]


def read_steps(nodes: Sequence[Mapping[str, Any]]) -> tuple[tuple[Step, ...], Mapping[str, str]]:
    """The steps, and the names that values of the outermost graph have in them where those differ.

    Raises InvalidModel; TypeError, KeyError and the like for JSON that is none of the schema.
    """
    scope = _Scope("", {}, 0)
    steps: list[Step] = []
    for step in _steps(nodes, scope):
        steps.append(step)
        if len(steps) > MAX_STEPS:
            raise InvalidModel(f"read more than {MAX_STEPS} steps, expected at most as many")
    return tuple(steps), scope.names


@dataclass(frozen=True)
class _Scope:
    """One graph: the prefix of names made in it, names from outside, and how deep it lies."""

    prefix: str
    names: dict[str, str]
    depth: int

    def name(self, local: str) -> str:
        """The name that a value of this graph has among all steps."""
        return self.names.get(local, self.prefix + local)


def _steps(nodes: Sequence[Mapping[str, Any]], scope: _Scope) -> Iterator[Step]:
    for index, node in enumerate(nodes):
        if node["target"] == _WITHOUT_GRADIENTS:
            yield from _written_out(node, index, scope)
        else:
            yield _step(node, scope)


def _written_out(node: Mapping[str, Any], index: int, scope: _Scope) -> Iterator[Step]:
    if scope.depth == MAX_DEPTH:
        raise InvalidModel(f"read graphs nested more than {MAX_DEPTH} deep, expected less")
    _, body, *given = (item["arg"] for item in node["inputs"])
    graph = body["as_graph"]["graph"]
    outer = [value_of(node["target"], item) for item in given]
    if not all(isinstance(item, Ref) for item in outer):
        raise InvalidModel("read a graph that is called with something else than tensors and sizes")
    local = [_result(node["target"], item) for item in graph["inputs"]]
    names = {str(name): scope.name(item.name) for name, item in zip(local, outer, strict=True)}
    inner = _Scope(f"{scope.prefix}{index}/", names, scope.depth + 1)
    yield from _steps(graph["nodes"], inner)
    made, wanted = (_flat([_result(node["target"], item) for item in items]) for items in (graph["outputs"], node["outputs"]))
    scope.names.update({there: inner.name(here) for here, there in zip(made, wanted, strict=True)})


def _step(node: Mapping[str, Any], scope: _Scope) -> Step:
    target = node["target"]
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise InvalidModel(f"read the operator {str(target)[:80]!r}, expected one of torch.ops.aten without control flow")
    arguments = tuple((str(item["name"]), renamed(value_of(target, item["arg"]), scope.name)) for item in node["inputs"])
    return Step(target, arguments, tuple(_placed(_result(target, item), scope) for item in node["outputs"]))


def _placed(result: str | tuple[str, ...] | None, scope: _Scope) -> str | tuple[str, ...] | None:
    if isinstance(result, tuple):
        return tuple(scope.name(item) for item in result)
    return None if result is None else scope.name(result)


def _flat(results: Sequence[str | tuple[str, ...] | None]) -> list[str]:
    return [name for item in results for name in ([item] if isinstance(item, str) else item or ())]


def _result(target: str, plain: Mapping[str, Any]) -> str | tuple[str, ...] | None:
    kind, value = only(plain)
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return name_of(value["name"])
        case "as_tensors":
            return tuple(name_of(item["name"]) for item in value)
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return name_of(value["as_name"])
    raise InvalidModel(f"{target}: read a result of the form {kind}, expected tensors and numbers")
