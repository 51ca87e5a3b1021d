"""The integers of each weight tensor that integer kernels multiply, and the bias that goes with them.

Nearest integers unless better ones were found before (see ``rounding``). A tensor that several nodes read is stored once for each
channel axis they see in it. Leaves the arithmetic to ``grid`` and the writing to ``qdq``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from edge_compress_quantize.grid import Grid, GridSettings
from edge_compress_quantize.placement import Placement
from edge_compress_quantize.rules import Multiply, Role, operands
from edge_compress_quantize.wiring import Wiring

Array = np.ndarray[Any, Any]
WeightKey = tuple[str, int]
"""name and channel axis of a weight tensor"""

_BIAS_STEPS = 2.0**30
"""a bias is kept within this many steps, so that it and the products summed onto it fit 32 bits"""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A weight tensor in integers."""

    grid: Grid
    integers: Array
    """in the grid's storage type, the shape of the weights"""

    @property
    def values(self) -> Array:
        """The float32 weights it stands for."""
        return self.grid.dequantize(self.integers)


def nearest(weights: Array, axis: int, settings: GridSettings, least: Array | None = None) -> Kernel:
    """The kernel that rounds every weight by itself. ``least``: smallest scale allowed, one a channel."""
    grid = settings.weight(weights, axis, least)
    return Kernel(grid, grid.quantize(weights))


def kernels_of(
    wiring: Wiring,
    placement: Placement,
    grids: Mapping[str, Grid],
    settings: GridSettings,
    *,
    wide: frozenset[WeightKey] = frozenset(),
    found: Mapping[WeightKey, Kernel] | None = None,
    biases: Mapping[str, Array] | None = None,
) -> dict[WeightKey, Kernel]:
    """Kernels of all weights that ``placement`` multiplies in integers: 8 bits for ``wide`` ones, those in ``found`` as they
    are where the bias fits them, the nearest for the rest."""
    least = _least_scales(wiring, placement, grids, biases or {})
    made: dict[WeightKey, Kernel] = {}
    for node, operand in multiplying(wiring, placement):
        key = (node.input[1], operand.axis)
        if key in made:
            continue
        known = (found or {}).get(key) if key not in wide else None
        if known is not None and (key not in least or (known.grid.scale >= least[key]).all()):
            made[key] = known
        else:
            chosen = replace(settings, bits=8) if key in wide else settings
            made[key] = nearest(operand.weights, operand.axis, chosen, least.get(key))
    return made


def multiplying(wiring: Wiring, placement: Placement) -> list[tuple[onnx.NodeProto, Multiply]]:
    """The nodes that multiply integers, with their operands, in graph order."""
    chosen = (node for node in wiring.graph.node if placement.roles.get(node.output[0]) is Role.MULTIPLY)
    return [(node, found) for node in chosen if (found := operands(node, wiring)) is not None]


def bias_of(node: onnx.NodeProto, found: Multiply, biases: Mapping[str, Array]) -> Array | None:
    """The bias a node gets: the corrected one where there is one."""
    return biases.get(node.output[0], found.bias)


def _least_scales(
    wiring: Wiring, placement: Placement, grids: Mapping[str, Grid], biases: Mapping[str, Array]
) -> dict[WeightKey, Array]:
    """The smallest scale each weight tensor may have for the biases of all nodes that use it to fit 32 bits."""
    least: dict[WeightKey, Array] = {}
    for node, found in multiplying(wiring, placement):
        bias = bias_of(node, found, biases)
        if bias is None:
            continue
        step = float(grids[placement.root[node.input[0]]].scale) * _BIAS_STEPS
        needed = np.abs(bias.astype(np.float64)) / step
        key = (node.input[1], found.axis)
        least[key] = np.maximum(needed, least[key]) if key in least else needed
    return least
