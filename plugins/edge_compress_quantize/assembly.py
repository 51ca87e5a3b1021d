"""One float model and everything measured about it, from which integer versions are put together: all of it, or parts.

What is measured (ranges of activations) and what was found (better integers, corrected biases) is kept here, so that trying
another choice of layers costs no calibration. Leaves which layers to ``mixed`` and the writing to ``qdq``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edge_compress_quantize import kernels, patches, qdq, ranges
from edge_compress_quantize.grid import Grid, GridSettings
from edge_compress_quantize.kernels import Kernel, WeightKey
from edge_compress_quantize.placement import Placement, place
from edge_compress_quantize.rules import Multiply, Role, operands
from edge_compress_quantize.wiring import Names, Wiring, replace

Array = np.ndarray[Any, Any]

_TITLE = 48
"""characters of a layer's name that are told"""


@dataclass(frozen=True)
class Layer:
    """A node that can multiply integers."""

    node: onnx.NodeProto
    found: Multiply

    @property
    def key(self) -> str:
        """Its first output."""
        return self.node.output[0]

    @property
    def name(self) -> str:
        """What a user calls it."""
        return self.node.name or self.node.output[0]

    def rows(self, values: Array) -> Array:
        """Weights of this layer, or integers in their place, as (groups, channels a group, K)."""
        return patches.weight_rows(self.node, values, self.found.axis)

    def from_rows(self, rows: Array) -> Array:
        """The inverse of ``rows``."""
        return patches.from_rows(rows, self.found.weights, self.found.axis)

    @property
    def title(self) -> str:
        """Its name, or the end of that where it is long, and its operator."""
        short = self.name if len(self.name) <= _TITLE else f"…{self.name[-_TITLE:]}"
        return f"{short} ({self.node.op_type})"

    @property
    def weight(self) -> WeightKey:
        """Its weight tensor."""
        return self.node.input[1], self.found.axis


@dataclass
class Assembly:
    """See the module. ``observe`` measures tensors of ``model`` by name."""

    model: onnx.ModelProto
    exclude: frozenset[str]
    settings: GridSettings
    chosen: ranges.RangeSettings
    observe: Callable[[list[str]], dict[str, ranges.Statistics]]
    statistics: dict[str, ranges.Statistics] = field(default_factory=dict)
    kernels: dict[WeightKey, Kernel] = field(default_factory=dict)
    """better integers than the nearest ones"""
    biases: dict[str, Array] = field(default_factory=dict)
    """corrected biases by first output of their node; they hold for ``kernels`` only"""
    kept: dict[str, Grid] = field(default_factory=dict)
    """grids of an earlier version by observed tensor, which stand whatever was measured"""
    held: dict[WeightKey, float] = field(default_factory=dict)
    """weights in an earlier version's integers, whose scales nothing refits, with the steps by which another must be better"""

    def __post_init__(self) -> None:
        self.wiring = Wiring(self.model.graph)
        self.layers = self._layers()

    def placed(self, floats: Collection[str] = ()) -> Placement:
        """Which nodes run on integers when the layers whose keys are in ``floats`` do not."""
        return place(self.wiring, self.exclude, frozenset(floats))

    def only(self, kept: Iterable[str]) -> frozenset[str]:
        """Keys of all layers but those in ``kept``."""
        return frozenset(layer.key for layer in self.layers) - frozenset(kept)

    def measure(self, placements: Iterable[Placement]) -> None:
        """Observe what these placements need and nobody observed yet, in one pass over the data."""
        wanted = dict.fromkeys(name for placed in placements for name in placed.observe.values())
        missing = [name for name in wanted if name not in self.statistics]
        if missing:
            self.statistics |= self.observe(missing)

    def grids(self, placed: Placement) -> dict[str, Grid]:
        """The grid of every activation that has one."""
        self.measure([placed])
        return {root: self._grid_of(seen) for root, seen in placed.observe.items()}

    def range_of(self, tensor: str) -> tuple[float, float]:
        """The range that an observed tensor is given."""
        return ranges.choose(self.statistics[tensor], self.chosen)

    def kernels_for(
        self, placed: Placement, grids: Mapping[str, Grid], wide: frozenset[WeightKey] = frozenset()
    ) -> dict[WeightKey, Kernel]:
        """The integers of every weight that ``placed`` multiplies; 8 bits for those in ``wide``."""
        return kernels.kernels_of(self.wiring, placed, grids, self.settings, wide=wide, found=self.kernels, biases=self.biases)

    def build(self, floats: Collection[str] = (), wide: frozenset[WeightKey] = frozenset()) -> onnx.ModelProto:
        """A new model in integers, but for the layers in ``floats``; weights in ``wide`` keep 8 bits."""
        placed = self.placed(floats)
        grids = self.grids(placed)
        made = self.kernels_for(placed, grids, wide)
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        biases = {key: value for key, value in self.biases.items() if self._holds(key, made)}
        qdq.insert(model.graph, Wiring(model.graph), placed, grids, made, self.settings, biases)
        return model

    def with_integer_weights(self, layers: Iterable[Layer], made: Mapping[WeightKey, Kernel]) -> onnx.ModelProto:
        """The float model with the values that integers give to the weights of some layers, and their corrected biases."""
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        nodes = {node.output[0]: node for node in changed.graph.node}
        names = Names(changed.graph)
        for layer in layers:
            node = nodes[layer.key]
            parts = [made[layer.weight].values]
            if layer.key in self.biases and self._holds(layer.key, made):
                parts.append(self.biases[layer.key])
                replace(node.attribute, [item for item in node.attribute if item.name != "beta"])
            for index, value in enumerate(parts, start=1):
                name = names.fresh("v")
                changed.graph.initializer.append(numpy_helper.from_array(value, name))
                replace(node.input, [*node.input[:index], name, *node.input[index + 1 :]])
        return changed

    def _grid_of(self, seen: str) -> Grid:
        return self.kept[seen] if seen in self.kept else self.settings.activation(*self.range_of(seen))

    def _holds(self, key: str, made: Mapping[WeightKey, Kernel]) -> bool:
        """Whether a corrected bias goes with the integers that are used."""
        weight = next(layer.weight for layer in self.layers if layer.key == key)
        return weight in made and made[weight] is self.kernels.get(weight)

    def _layers(self) -> list[Layer]:
        roles = place(self.wiring, self.exclude).roles
        chosen = [node for node in self.wiring.graph.node if roles.get(node.output[0]) is Role.MULTIPLY]
        return [Layer(node, found) for node in chosen if (found := operands(node, self.wiring)) is not None]
