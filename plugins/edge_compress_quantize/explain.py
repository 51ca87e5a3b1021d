"""Why a layer of an assembly loses much in integers: gathers what ``diagnose`` needs to tell, and joins what it told."""

from __future__ import annotations

from collections.abc import Mapping

from edge_compress_quantize.assembly import Assembly, Layer
from edge_compress_quantize.diagnose import Effect, activation_effect, saturation_effect, weight_effect
from edge_compress_quantize.grid import Grid
from edge_compress_quantize.kernels import WeightKey
from edge_compress_quantize.placement import Placement

_SEVERE = 0.1
"""of the signal; effects above this are all told"""
_UNEXPLAINED = 100.0
"""times; noise so much above what rounding and clipping explain has another cause"""


def explain(assembly: Assembly, layer: Layer, noise: float, wide: frozenset[WeightKey]) -> str:
    """The effects that disturb a layer when it alone runs in integers, the largest first. ``noise`` is what was measured over
    the signal of the outputs, ``wide`` holds the weights that have 8 bits."""
    placed = assembly.placed(assembly.only([layer.key]))
    grids = assembly.grids(placed)
    kernel = assembly.kernels_for(placed, grids, wide)[layer.weight]
    effects = [weight_effect(layer.found.weights, layer.found.axis, kernel)]
    effects += _around(assembly, layer, placed, grids)
    effects.sort(key=lambda effect: -effect.share)
    if noise > _UNEXPLAINED * effects[0].share:
        saturated = saturation_effect(kernel, grids[placed.root[layer.node.input[0]]], noise)
        effects[:0] = [saturated] if saturated else []
    return "; ".join(effect.words for effect in effects if effect is effects[0] or effect.share > _SEVERE)


def worst_activation(assembly: Assembly) -> tuple[str, Effect]:
    """The layer whose input or output suffers most from the ranges as they are, and how."""
    placed = assembly.placed()
    grids = assembly.grids(placed)
    found = [(layer.title, effect) for layer in assembly.layers for effect in _around(assembly, layer, placed, grids)]
    return max(found, key=lambda item: item[1].share)


def _around(assembly: Assembly, layer: Layer, placed: Placement, grids: Mapping[str, Grid]) -> list[Effect]:
    """What happens to the input and the output of a layer, where they are integers."""
    effects = []
    for role, name in (("its input", layer.node.input[0]), ("its output", layer.key)):
        root = placed.root.get(name)
        if root is not None:
            effects.append(activation_effect(role, assembly.statistics[placed.observe[root]], grids[root]))
    return effects
