"""Which way each layer is split and how thin: by the energy to keep, or as much as it takes to save a share of the model.

A split counts only where it has fewer multiplications and fewer weights than the layer has now. Leaves the arithmetic to
``factors``.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_compress_lowrank.factors import Split, output_energy, split
from edge_compress_lowrank.layers import Layer
from edge_compress_lowrank.moments import Moment
from edge_compress_lowrank.ways import WAYS, Ranks, Way

_LOOKED_AT = 8
"""ranks that are tried out for each way to split a layer"""
_NOTHING = 1e-9
_MEASURED_AT = (0.02, 0.15)
"""losses of the output's energy; of each layer the splits nearest to these are measured for their harm"""


@dataclass(frozen=True)
class Choice:
    """One split of a layer that pays: what it saves, and the share of the output's energy that it loses."""

    way: str
    ranks: Ranks
    macs: int
    weights: int
    lost: float
    harm: float
    """what the layer's loss does to the outputs of the model; without data, the loss itself"""

    def saved(self, target: str) -> int:
        """MACs or weights fewer than now."""
        return self.macs if target == "macs" else self.weights


def may_pay(layer: Layer, step: int) -> bool:
    """Whether the thinnest split saves anything; tells from shapes alone, before any data is looked at."""
    return any(_saving(layer, way, way.thinnest(step)) is not None for way in WAYS if way.fits(layer))


def menu(layer: Layer, moment: Moment, step: int, harm: Callable[[Split], float] | None = None) -> list[Choice]:
    """Splits of a layer that pay. ``harm`` measures what one split does to the model's outputs; it is asked
    about two of them."""
    found: list[tuple[Choice, Split]] = []
    energy = output_energy(layer, moment)
    for way in (kind(layer, moment) for kind in WAYS if kind.fits(layer)):
        paying = [(ranks, saving) for ranks in way.choices(step) if (saving := _saving(layer, way, ranks)) is not None]
        for ranks, (macs, weights) in _spread(paying):
            done = split(layer, moment, way, ranks, energy)
            found.append((Choice(way.name, ranks, macs, weights, done.lost, done.lost), done))
    if harm is None or not found:
        return [choice for choice, _ in found]
    known = sorted({item.lost: harm(item) for item in _measured([done for _, done in found])}.items())
    return [replace(choice, harm=_between(choice.lost, known)) for choice, _ in found]


def _measured(splits: Sequence[Split]) -> list[Split]:
    return [min(splits, key=lambda item: abs(math.log(max(item.lost, _NOTHING) / loss))) for loss in _MEASURED_AT]


def _between(lost: float, known: Sequence[tuple[float, float]]) -> float:
    """Harm at a loss: in proportion up to the first measured split, from there by the power that the two follow, at least one."""
    (first, low), (last, high) = known[0], known[-1]
    first, low = max(first, _NOTHING), max(low, _NOTHING)
    power = 1.0 if lost <= first or last <= first else max(1.0, math.log(max(high, low) / low) / math.log(last / first))
    return low * float((lost / first) ** power)


def by_energy(menus: Mapping[str, Sequence[Choice]], energy: float) -> dict[str, Choice]:
    """For each layer the cheapest split that keeps this share of its output's energy; layers without one are left out."""
    chosen = {}
    for name, choices in menus.items():
        good = [choice for choice in choices if choice.lost <= 1 - energy]
        if good:
            chosen[name] = max(good, key=lambda choice: (choice.macs, choice.weights))
    return chosen


def by_ratio(menus: Mapping[str, Sequence[Choice]], wanted: float, target: str) -> dict[str, Choice]:
    """Save ``wanted`` MACs or weights in all, taking again and again the step that harms least for what it saves.

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
    """The choice of a layer that saves more than ``now`` at the least additional harm for each unit saved."""
    harm, saved = (now.harm, now.saved(target)) if now else (0.0, 0)
    prices = [
        (max(0.0, choice.harm - harm) / (choice.saved(target) - saved), name, index)
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
