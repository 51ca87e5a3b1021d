"""Mixed precision: finds by itself the layers that must be kept higher, and says why.

First, ranges chosen in another way are tried. Then each layer is quantised alone and the noise this adds to the network's outputs
is measured against the float outputs. Noise of different layers adds up, so layers are kept higher in the order of noise per
cost until the outputs are good enough, with the fewest found by bisection. With fewer than 8 bits, layers get 8-bit weights
first, and only then stay float.

Sources: greedy by measured sensitivity: Wu et al. 2020 (arXiv:2004.09602), section 4.3; noise as the measure, and that it adds
up: Lin et al. 2016 (arXiv:1511.06393). Leaves building to ``assembly``, measuring to ``reference``, the words to ``explain``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from edge_compress.graph.macs import node_macs
from edge_compress.graph.shapes import tensor_types
from edge_compress_quantize.assembly import Assembly, Layer
from edge_compress_quantize.explain import explain, worst_activation
from edge_compress_quantize.kernels import WeightKey
from edge_compress_quantize.ranges import CHOOSERS
from edge_compress_quantize.reference import Distance, Goal, Reference

_BUDGET_MACS = 1.5e11
"""multiplications that measuring every layer alone may take: half a minute of one small core"""
_CHECK_MACS = 4e10
"""the same for measuring one choice"""
_SAMPLES = (4, 32)
_CHECKED = (16, 256)
_EXPLAINED = 6
"""layers whose diagnosis is told"""
_BETTER = 0.8
"""of the noise before; less is left to chance"""


@dataclass(frozen=True)
class Effort:
    """How much may be measured. It follows from the model alone, so that equal inputs give equal choices."""

    samples: int
    """for one layer alone"""
    checked: int
    """for a choice of layers"""
    groups: int
    """layers measured by themselves; neighbours go together where there are more"""


@dataclass(frozen=True)
class Choice:
    """Layers to keep in float (by key) and weights to keep in 8 bits, with the distance that is left."""

    floats: frozenset[str] = frozenset()
    wide: frozenset[WeightKey] = frozenset()
    distance: Distance = Distance(0.0)


@dataclass(frozen=True)
class _Group:
    """Layers that are measured and kept together, what keeping them higher costs, and the noise they make alone."""

    layers: tuple[Layer, ...]
    cost: float
    noise: float = 0.0


def effort(assembly: Assembly) -> Effort:
    """As much as is affordable for a model of this size."""
    one = sum(_costs(assembly, "macs").values())
    layers = max(1, len(assembly.layers))
    samples = _within(_SAMPLES, _BUDGET_MACS / (one * layers))
    return Effort(samples, _within(_CHECKED, _CHECK_MACS / one), _within((4, layers), _BUDGET_MACS / (one * samples)))


def choose(
    assembly: Assembly,
    reference: Reference,
    goal: Goal,
    effort: Effort,
    *,
    per: str,
    progress: Callable[[float, str], None],
    log: Callable[[str], None],
) -> Choice:
    """The fewest layers to keep higher for the outputs to reach ``goal``, counted by cost: ``per`` "bytes" of their weights or
    "macs". Raises ValueError when none could be integer."""
    groups = _grouped(assembly, _costs(assembly, per), effort.groups)
    search = _Search(assembly, reference, goal, effort, groups, progress, log)
    plain = search.at(Choice())
    if goal.met(plain.distance):
        log(f"with every layer in integers the outputs reach {plain.distance}; the goal is {goal}")
        return plain
    log(f"diagnosis: in integers the outputs fall to {plain.distance}; the goal is {goal}")
    chosen = search.change_ranges(plain)
    if not search.goal.met(chosen.distance) and assembly.settings.bits < 8:
        chosen = search.widen(chosen)
    if not search.goal.met(chosen.distance):
        chosen = search.keep_float(chosen)
    log(f"diagnosis: repaired{_summary(chosen, assembly)}: the outputs reach {chosen.distance}")
    return chosen


@dataclass
class _Search:
    assembly: Assembly
    reference: Reference
    goal: Goal
    effort: Effort
    groups: Sequence[_Group]
    progress: Callable[[float, str], None]
    log: Callable[[str], None]

    def at(self, choice: Choice) -> Choice:
        """The same choice with its distance measured."""
        return replace(choice, distance=self.reference.distance(self.assembly.build(choice.floats, choice.wide)))

    def change_ranges(self, plain: Choice) -> Choice:
        """Choose all ranges in another way where that brings the outputs nearer."""
        first, best, found = self.assembly.chosen, self.assembly.chosen, plain
        for name in CHOOSERS:
            self.assembly.chosen = replace(first, calibration=name)
            tried = self.at(plain)
            if tried.distance.noise < _BETTER * found.distance.noise:
                best, found = self.assembly.chosen, tried
        self.assembly.chosen = first
        if best is not first:
            disturbed, effect = worst_activation(self.assembly)
            self.log(f"diagnosis: {disturbed}: {effect.words}; ranges by {best.calibration} leave {found.distance}")
        self.assembly.chosen = best
        return found

    def widen(self, plain: Choice) -> Choice:
        """Give weights 8 bits, most harmful per cost first; where even 8 bits all over miss the goal by a little, nearly as good
        as those is good enough."""
        widest = self.at(replace(plain, wide=_weights(self.groups)))
        self.goal = self.goal.eased(widest.distance)
        placed = self.assembly.placed()
        made = self.assembly.kernels_for(placed, self.assembly.grids(placed))
        order = self._ordered(lambda group: self.assembly.with_integer_weights(group.layers, made), 0.0, 0.45)
        count, chosen = self._fewest(order, lambda part: replace(plain, wide=_weights(part)))
        self._tell(order[:count], "it gets 8-bit weights", plain.wide)
        return chosen

    def keep_float(self, plain: Choice) -> Choice:
        """Keep layers out of integers, most harmful per cost first."""
        self.assembly.measure([self.assembly.placed(self._others(group)) for group in self.groups])
        order = self._ordered(lambda group: self.assembly.build(self._others(group), plain.wide), 0.5, 0.95)
        count, chosen = self._fewest(order, lambda part: replace(plain, floats=_keys(part)))
        if count == len(order):
            raise ValueError(f"no layer can run in integers if the outputs must reach {self.goal} of signal to noise")
        self._tell(order[:count], "it stays float", plain.wide)
        return chosen

    def _ordered(self, alone: Callable[[_Group], onnx.ModelProto], first: float, last: float) -> list[_Group]:
        """The groups with the noise each makes alone, the most harmful per cost first."""
        found = []
        for index, group in enumerate(self.groups):
            distance = self.reference.distance(alone(group), samples=self.effort.samples)
            found.append(replace(group, noise=distance.noise))
            done = first + (last - first) * (index + 1) / len(self.groups)
            self.progress(done, f"sensitivity: {index + 1} of {len(self.groups)} layers")
        return sorted(found, key=lambda group: -group.noise / group.cost)

    def _others(self, group: _Group) -> frozenset[str]:
        return self.assembly.only(layer.key for layer in group.layers)

    def _fewest(self, order: Sequence[_Group], with_first: Callable[[Sequence[_Group]], Choice]) -> tuple[int, Choice]:
        """How many of the groups, and the choice, by bisection; all of them where fewer do not reach the goal."""
        low, high = 0, len(order)
        best: Choice | None = None
        while best is None or high - low > 1:
            middle = (low + high + 1) // 2
            tried = self.at(with_first(order[:middle]))
            if self.goal.met(tried.distance) or middle == len(order):
                high, best = middle, tried
            else:
                low = middle
        return high, best

    def _tell(self, groups: Sequence[_Group], done: str, wide: frozenset[WeightKey]) -> None:
        for group in groups[:_EXPLAINED]:
            layer, alone = group.layers[0], Distance(group.noise)
            words = explain(self.assembly, layer, group.noise, wide)
            self.log(f"diagnosis: {layer.title}: {words}; alone it leaves {alone}, so {done}")
        if len(groups) > _EXPLAINED:
            self.log(f"diagnosis: so with {len(groups) - _EXPLAINED} more")


def _costs(assembly: Assembly, per: str) -> dict[str, float]:
    """What keeping each layer higher costs: its weights, or its multiply-accumulates."""
    if per == "bytes":
        return {layer.key: float(layer.found.weights.size) for layer in assembly.layers}
    types = tensor_types(assembly.model)

    def shape_of(name: str) -> tuple[int, ...] | None:
        return types[name].shape if name in types else None

    return {layer.key: float(node_macs(layer.node, shape_of) or layer.found.weights.size) for layer in assembly.layers}


def _grouped(assembly: Assembly, cost: Mapping[str, float], count: int) -> list[_Group]:
    """Every layer by itself, or neighbours together where there are more than ``count``."""
    size = math.ceil(len(assembly.layers) / count)
    parts = [tuple(assembly.layers[start : start + size]) for start in range(0, len(assembly.layers), size)]
    return [_Group(part, sum(cost[layer.key] for layer in part)) for part in parts]


def _weights(groups: Sequence[_Group]) -> frozenset[WeightKey]:
    return frozenset(layer.weight for group in groups for layer in group.layers)


def _keys(groups: Sequence[_Group]) -> frozenset[str]:
    return frozenset(layer.key for group in groups for layer in group.layers)


def _within(limits: tuple[int, int], value: float) -> int:
    return int(min(limits[1], max(limits[0], value)))


def _summary(choice: Choice, assembly: Assembly) -> str:
    total = sum(layer.found.weights.size for layer in assembly.layers)
    floats = sum(layer.found.weights.size for layer in assembly.layers if layer.key in choice.floats)
    wide = sum(layer.found.weights.size for layer in assembly.layers if layer.weight in choice.wide)
    parts = []
    if choice.wide:
        parts.append(f"{wide / total:.1%} of the weights in 8 bits")
    if choice.floats:
        parts.append(f"{len(choice.floats)} of {len(assembly.layers)} layers ({floats / total:.1%} of the weights) in float")
    return f" by keeping {' and '.join(parts)}" if parts else ""
