"""Which way each layer is split and how thin: by the energy to keep, or as much as it takes to save a share of the model.

A split counts only where it has fewer multiplications and fewer weights than the layer has now. Leaves the arithmetic to
``factors``.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_compress_lowrank.factors import WAYS, Ranks, Way, split
from edge_compress_lowrank.layers import Layer
from edge_compress_lowrank.moments import Moment

_LOOKED_AT = 12
"""ranks that are tried out for each way to split a layer"""


@dataclass(frozen=True)
class Choice:
    """One split of a layer that pays: what it saves, and the share of the output's energy that it loses."""

    way: str
    ranks: Ranks
    macs: int
    weights: int
    lost: float

    def saved(self, target: str) -> int:
        """MACs or weights fewer than now."""
        return self.macs if target == "macs" else self.weights


def may_pay(layer: Layer, step: int) -> bool:
    """Whether the thinnest split saves anything; tells from shapes alone, before any data is looked at."""
    return any(_saving(layer, way, way.thinnest(step)) is not None for way in WAYS if way.fits(layer))


def menu(layer: Layer, moment: Moment, step: int) -> list[Choice]:
    """Splits that pay and that no other one beats at both saving and loss is left to the chooser; thinnest first."""
    found = []
    for way in (kind(layer, moment) for kind in WAYS if kind.fits(layer)):
        paying = [(ranks, saving) for ranks in way.choices(step) if (saving := _saving(layer, way, ranks)) is not None]
        for ranks, (macs, weights) in _spread(paying):
            found.append(Choice(way.name, ranks, macs, weights, split(layer, moment, way, ranks).lost))
    return found


def by_energy(menus: Mapping[str, Sequence[Choice]], energy: float) -> dict[str, Choice]:
    """For each layer the cheapest split that keeps this share of its output's energy; layers without one are left out."""
    chosen = {}
    for name, choices in menus.items():
        good = [choice for choice in choices if choice.lost <= 1 - energy]
        if good:
            chosen[name] = max(good, key=lambda choice: (choice.macs, choice.weights))
    return chosen


def by_ratio(menus: Mapping[str, Sequence[Choice]], wanted: float, target: str) -> dict[str, Choice]:
    """Save ``wanted`` MACs or weights in all, taking again and again the step that loses least for what it saves.

    Raises ValueError when that much cannot be saved.
    """
    chosen: dict[str, Choice] = {}
    saved = 0.0
    queue = [step for name in menus if (step := _best_step(name, menus[name], None, target))]
    heapq.heapify(queue)
    while saved < wanted and queue:
        _, name, index = heapq.heappop(queue)
        choice = menus[name][index]
        saved += choice.saved(target) - (chosen[name].saved(target) if name in chosen else 0)
        chosen[name] = choice
        if step := _best_step(name, menus[name], choice, target):
            heapq.heappush(queue, step)
    if saved < wanted:
        raise ValueError(f"ratio: factoring can save {saved:,.0f} {target} at most, {wanted:,.0f} were asked for")
    return chosen


def _best_step(name: str, choices: Sequence[Choice], now: Choice | None, target: str) -> tuple[float, str, int] | None:
    """The choice of a layer that saves more than ``now`` at the least additional loss for each unit saved."""
    lost, saved = (now.lost, now.saved(target)) if now else (0.0, 0)
    prices = [
        (max(0.0, choice.lost - lost) / (choice.saved(target) - saved), name, index)
        for index, choice in enumerate(choices)
        if choice.saved(target) > saved
    ]
    return min(prices, default=None)


def _saving(layer: Layer, way: Way | type[Way], ranks: Ranks) -> tuple[int, int] | None:
    """MACs and weights saved, or None where either does not fall."""
    shapes = way.shapes(layer, ranks)
    macs = layer.macs([layer.whole]) - layer.macs(shapes)
    weights = layer.weight.size - sum(math.prod(shape) for shape, _ in shapes)
    return (macs, weights) if macs > 0 and weights > 0 else None


def _spread(paying: list[tuple[Ranks, tuple[int, int]]]) -> list[tuple[Ranks, tuple[int, int]]]:
    """At most so many, evenly over the list."""
    if len(paying) <= _LOOKED_AT:
        return paying
    last = len(paying) - 1
    return [paying[round(index * last / (_LOOKED_AT - 1))] for index in range(_LOOKED_AT)]
