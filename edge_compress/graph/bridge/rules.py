"""How one operator becomes torch: a rule reads a node through a ``View`` and answers with a ``Plan``.

Rules are registered by operator in the modules of their families; the importer calls them and knows no operator by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from edge_compress.graph.bridge.source import Node
from edge_compress.graph.bridge.values import Value


class RefusedError(Exception):
    """This node has no torch form; the text says why."""


Maker = Callable[[int, str, Callable[[Tensor], Tensor] | None], nn.Parameter]


@dataclass(frozen=True)
class Plan:
    """What a node becomes. ``module``: a layer, or a function that becomes one without state."""

    module: Callable[..., Any]
    args: tuple[int, ...] = (0,)
    """positions of the node's inputs it is called with, in this order"""
    sizes: frozenset[int] = frozenset()
    """of these, the ones taken as lists of whole numbers rather than as tensors"""
    weights: Mapping[str, int] = field(default_factory=dict)
    """parameter of the module -> position of the input that holds it"""
    pads: tuple[int, ...] = ()
    """zeros put around the first argument before: begins of the spatial axes, then ends"""


@dataclass(frozen=True)
class View:
    """A node with what is known of its inputs. ``values`` has None for inputs left out."""

    node: Node
    opset: int
    values: tuple[Value | None, ...]
    make: Maker
    mixed: Callable[[str], bool]
    """whether a stored tensor plays different parts in different nodes"""

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default where it is absent."""
        return self.node.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether the input is given."""
        return index < len(self.values) and self.values[index] is not None

    def value(self, index: int) -> Value:
        """An input. Raises RefusedError where it is left out."""
        value = self.values[index] if index < len(self.values) else None
        if value is None:
            raise RefusedError(f"input {index} is missing")
        return value

    def constant(self, index: int) -> Tensor | None:
        """The values of an input, where it is given and constant."""
        return self.value(index).constant if self.has(index) else None

    def need(self, index: int, what: str) -> Tensor:
        """The values of an input that must be constant. Raises RefusedError."""
        found = self.constant(index)
        if found is None:
            raise RefusedError(f"{what} is computed while the model runs; expected a constant")
        return found

    def numbers(self, index: int, what: str) -> list[int]:
        """As ``need``, as whole numbers."""
        return [int(item) for item in self.need(index, what).reshape(-1).tolist()]

    def either(self, attribute: str, index: int, what: str) -> list[int] | None:
        """Whole numbers that older opsets keep in an attribute and newer ones in a constant input; None where absent."""
        if attribute in self.node.attributes:
            return [int(item) for item in self.node.attributes[attribute]]
        return self.numbers(index, what) if self.has(index) else None

    def rank(self, index: int = 0) -> int:
        """Number of axes."""
        return len(self.value(index).shape)

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """In the first probe."""
        return self.value(index).shape

    def parameter(self, index: int, form: str = "", change: Callable[[Tensor], Tensor] | None = None) -> nn.Parameter:
        """The constant at ``index`` as a parameter, one and the same for each use in this ``form``; ``change`` makes the form."""
        return self.make(index, form, change)

    def loose(self, *indexes: int) -> bool:
        """Whether any of these inputs is not constant or is shared with a node that uses it otherwise."""
        given = [self.value(index) for index in indexes if self.has(index)]
        return any(item.constant is None or self.mixed(item.name) for item in given)


Rule = Callable[[View], Plan]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operators."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            if operator in RULES:
                raise RuntimeError(f"two rules for {operator}")
            RULES[operator] = function
        return function

    return register


def whole(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front."""
    return [axis % rank if rank else 0 for axis in axes]
