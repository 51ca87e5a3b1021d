"""The torch graph under construction: modules, parameters and constants under names that torch takes, each once.

What is put in, and when, is decided by ``importer``.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from edge_compress.graph.bridge.modules import Measure
from edge_compress.graph.bridge.rules import RefusedError
from edge_compress.graph.bridge.values import Symbol, Value, as_sizes

_LARGEST_LEARNED = 1e4
"""constants with larger values are masks, not weights"""


class Parts:
    """A graph and the modules it calls. ``origins``: path of a parameter -> name of the stored tensor it came from."""

    def __init__(self, symbols: Sequence[Symbol]) -> None:
        self.graph, self.root = fx.Graph(), nn.Module()
        self.origins: dict[str, str] = {}
        self._symbols = symbols
        self._inputs: list[fx.Node] = []
        self._shared: dict[object, str] = {}
        self._constants: dict[str, str] = {}
        self._taken: set[str] = set()

    def placeholder(self, name: str) -> fx.Node:
        """An input of the model."""
        self._inputs.append(self.graph.placeholder(self._unique(name)))
        return self._inputs[-1]

    def call(self, name: str, module: nn.Module, args: Sequence[Any]) -> fx.Node:
        """A call of a module of its own, in eval mode."""
        return self.graph.call_module(self._add(name, module), tuple(args))

    def shared(self, key: object, name: str, module: nn.Module) -> tuple[str, nn.Module]:
        """The module that was first given under this key, and its path."""
        if key not in self._shared:
            self._shared[key] = self._add(name, module)
        return self._shared[key], self.root.get_submodule(self._shared[key])

    def argument(self, value: Value, *, sized: bool) -> Any:
        """What a call gets: a node, or whole numbers themselves."""
        constant = value.constant
        if sized and constant is not None:
            return [int(item) for item in constant.reshape(-1).tolist()]
        if sized and value.known:
            return self._measure(value, tensor=False)
        return self.tensor(value)

    def tensor(self, value: Value) -> fx.Node:
        """The node that gives the value when the model runs. Raises RefusedError where it has no simple form."""
        if value.node is not None:
            return value.node
        constant = value.constant
        if constant is None:
            return self._measure(value, tensor=True)
        if value.name not in self._constants:
            name = self._constants[value.name] = self._unique(value.name)
            if is_learned(value):
                self.root.register_parameter(name, nn.Parameter(constant.clone()))
                self.origins[name] = value.name
            else:
                self.root.register_buffer(name, constant.clone())
        return self.graph.get_attr(self._constants[value.name])

    def _measure(self, value: Value, *, tensor: bool) -> fx.Node:
        sizes = as_sizes(value.probes, self._symbols)
        if sizes is None:
            raise RefusedError(f"{value.name} is computed from free sizes in a way that has no simple form")
        module = Measure(sizes, self._symbols, tensor=tensor, scalar=value.probes[0].dim() == 0)
        return self.call(f"{value.name}_sizes", module, self._inputs)

    def _add(self, name: str, module: nn.Module) -> str:
        target = self._unique(name)
        self.root.add_module(target, module.eval())
        return target

    def _unique(self, name: str) -> str:
        """A name nobody has, without what Python or torch would not take."""
        clean = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "t"
        clean = f"n{clean}" if clean[0].isdigit() else clean
        chosen, count = clean, 0
        while chosen in self._taken or hasattr(self.root, chosen) or keyword.iskeyword(chosen.lower()):
            count += 1
            chosen = f"{clean}_{count}"
        self._taken.add(chosen)
        return chosen


def is_learned(value: Value) -> bool:
    """Whether a constant looks like a weight: stored in the file, floats, several, none of them a mask's -1e9."""
    tensor = value.probes[0]
    plain = value.stored and tensor.is_floating_point() and tensor.numel() > 1
    return plain and bool(tensor.isfinite().all()) and float(tensor.abs().max()) < _LARGEST_LEARNED
