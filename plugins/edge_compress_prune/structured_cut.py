"""Cuts channels round after round and trains in between, with the original as teacher.

What a channel is worth is left to ``structured_importance``, how many go to ``structured_budget``.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.answers import agreement
from edge_compress.graph.bridge.importer import Imported
from edge_compress.graph.bridge.maps import stage_maps
from edge_compress.graph.bridge.norms import fold, unfold
from edge_compress.graph.bridge.pace import batch_within, epochs_within
from edge_compress.graph.bridge.training import Course, Trained, fine_tune, outputs_of
from edge_compress.plugin import Context
from edge_compress_prune.questions import Questions, joined
from edge_compress_prune.schedule import Schedule
from edge_compress_prune.structured_blocks import arithmetic_of
from edge_compress_prune.structured_budget import Choice, Layer, share_out
from edge_compress_prune.structured_costs import costs_of, layers_of
from edge_compress_prune.structured_groups import Group, cut, find_groups
from edge_compress_prune.structured_importance import importances
from edge_compress_prune.structured_repair import Repair

STAGES = ("stages",)
"""instead of names: the last map of each resolution"""
_ANY_NUMBER_UP_TO = 8
"""where channels come in more than this, layers that are too small for two such lots stay whole"""
_AT_ONCE = 32
_TRIED = tuple(1 - 0.05 * step for step in range(1, 16))
"""shares of the cost that are tried where a share of the answers is to stay. In finer steps ResNet-20 lost channels beside a
block: 1.5% faster in integers, for twice the drop"""
_FEWEST_SAMPLES = 500
"""with which training makes up for a cut: 200 brought an EfficientNet-Lite0 back to within five points"""
_HOPELESS = 0.7
"""share of the answers that must be left of a model without blocks for ten passes to bring it back: 51% lost three points"""
_LEAST_GAIN = 0.12
"""share of the cost that must go for minutes of training to be worth it, where how much goes was left open"""


_Weighed = tuple[list[Group], Repair, list[Choice], list[Layer]]


@dataclass(frozen=True)
class Wish:
    """What is to be left, and how to choose it."""

    measure: str
    """macs, weights or channels"""
    left: float
    """the share of them that stays"""
    importance: str
    schedule: Schedule
    most: float
    """share of a group's channels that may go"""
    multiple: int
    """channels left are a multiple of this"""
    exclude: tuple[str, ...] = ()
    keep: float | None = None
    """instead of ``left``: the share of the answers that are as they were, before any training"""
    may_stay_whole: bool = False
    """something was cut already, so that ``keep`` may leave all channels"""


def thin(imported: Imported, wish: Wish, course: Course, context: Context) -> Trained | None:
    """Cut and train a module in place; None where no training was asked for. Raises ValueError where nothing can be cut.

    Where ``course.epochs`` is below 0 they follow from the step's time; where how much goes was left open as well, a cut that is
    not worth its training is refused before it.
    """
    open_ended = wish.keep is not None and wish.schedule.epochs is None
    samples = _count(context, course.batch) if course.epochs < 0 else 0
    if open_ended and samples < _FEWEST_SAMPLES:
        raise ValueError(f"keep: {samples} training samples are too few to make up for a cut, expected {_FEWEST_SAMPLES} or more")
    module, cutter = imported.module, _Cutter(imported, wish, context)
    if open_ended and not wish.may_stay_whole and cutter.left > 1 - _LEAST_GAIN:
        raise ValueError(f"keep: only {1 - cutter.left:.0%} of the {wish.measure} may go, too little to train for")
    course = replace(course, batch=cutter.bearable(course.batch))
    if course.epochs < 0:
        course = replace(course, epochs=cutter.affordable(samples))
    if course.features == STAGES:
        course = replace(course, features=stage_maps(module, context.teacher()))
    rounds = wish.schedule.targets(cutter.left)
    epochs = wish.schedule.spans(course.epochs)
    done, trained = 0.0, None
    for number, (left, part) in enumerate(zip(rounds, epochs, strict=True)):
        cutter.cut_to(left)
        if part:
            span = (done / course.epochs, (done + part) / course.epochs)
            shorter = replace(course, epochs=part)
            trained = fine_tune(module, context.teacher(), context, shorter, span=span, round_=number)
            done += part
    fold(module)
    return trained


class _Cutter:
    """Keeps what a module was before the first cut."""

    def __init__(self, imported: Imported, wish: Wish, context: Context) -> None:
        self._module, self._wish, self._context = imported.module, wish, context
        asked = Questions.ask(context)
        self._answers, self._told = asked.answers, joined(asked.told_judges)
        self._few = [item[:2] if imported.free_batch else item for item in asked.fit[0]]
        parts, size = (asked.fit, asked.judge), self.bearable(_AT_ONCE)
        self._batches, self._judges = (_in_parts(part, size) if imported.free_batch else part for part in parts)
        unfold(self._module, self._batches)
        cuts = wish.left < 1 or wish.keep is not None
        self._groups = self._usable(log=True) if cuts else []
        if not self._groups and cuts:
            raise ValueError("no group of channels can be cut from this model")
        self._channels = {group.name: group.channels for group in self._groups}
        self._whole = self._cost() if self._groups else 1.0
        self._macs = self._arithmetic()
        self._uncut = True
        self._known: _Weighed | None = None
        """of the module as it is, where that was found out"""
        self.left = wish.left if wish.keep is None else self._least_that_keeps(wish.keep)
        """the share of the cost that is to stay"""

    def affordable(self, samples: int) -> float:
        """Epochs that fit the step's time, once the cut is made: arithmetic is what the cut leaves of it, as far as is known."""
        left = self.left**2 if self._wish.measure == "channels" else self.left
        teacher = arithmetic_of(self._context.teacher())
        return epochs_within(self._context.limits, samples, student_macs=left * self._macs, teacher_macs=teacher)

    def bearable(self, batch: int) -> int:
        """The batch, or as much of it as the step's memory bears before the cut."""
        return batch_within(self._context.limits.memory_bytes, batch, self._module, self._few)

    def _arithmetic(self) -> float:
        return sum(costs_of(self._module, self._few, "macs").values())

    def cut_to(self, left: float) -> None:
        """Cut until this share of the original cost is left, as far as the groups allow."""
        if left >= 1:
            return
        groups, repair, choices, layers = self._known or self._weighed()
        self._known, self._uncut = None, False
        gone = share_out(choices, layers, left * self._whole / self._cost())
        _carry_out(self._module, self._few, groups, repair, gone)
        counts = ", ".join(f"{_label(name)} {self._channels[name]}->{self._now(name, groups, gone)}" for name in self._channels)
        self._context.log(f"{self._cost() / self._whole:.1%} of the {self._wish.measure} left; channels: {counts}")

    def _weighed(self) -> _Weighed:
        """The groups as they are now, what repairs a cut, what each channel is worth, and what layers cost."""
        groups = [group for group in self._usable() if group.name in self._channels]
        how, seed = self._wish.importance, self._context.seed
        repair = Repair(self._module, groups, self._batches)

        def found() -> bytes:
            worth = importances(self._module, groups, self._batches, self._answers, how, seed, repair)
            return json.dumps({name: [float(value) for value in values] for name, values in worth.items()}).encode()

        # Before the first cut other parameters find the same; paths tell which blocks are left.
        whole = " ".join(f"{group.name}:{group.channels}" for group in groups)
        worth = json.loads(self._context.cached(f"worth {how} {whole}", found) if self._uncut else found())
        choices = [self._choice(group, tuple(worth[group.name])) for group in groups]
        return groups, repair, choices, layers_of(self._module, groups, self._few, self._wish.measure)

    def _least_that_keeps(self, keep: float) -> float:
        """The smallest share of the cost with which that share of the answers stays as it was, before any training.

        Raises ValueError where even the mildest cut changes more, unless the module may stay as wide as it is.
        """
        self._known = groups, repair, choices, layers = self._weighed()

        def kept(left: float) -> float:
            copied = copy.deepcopy(self._module)
            _carry_out(copied, self._few, groups, repair.of(copied), share_out(choices, layers, left))
            with torch.no_grad():
                made = [outputs_of(copied.eval(), batch) for batch in self._judges]
            return agreement(self._answers, joined(made), self._told)

        best = kept(_TRIED[0])
        if best < keep and self._wish.may_stay_whole:
            whole = kept(1.0)
            if whole < _HOPELESS and self._wish.schedule.epochs is None:
                raise ValueError(f"keep: without blocks {whole:.0%} of the answers are as they were, too few to train for")
            self._context.log(f"no channel goes: with {whole:.0%} fewer than {keep:.0%} of the answers are as they were already")
            return 1.0
        if best < keep:
            raise ValueError(f"keep: the mildest cut leaves {best:.1%} of the answers as they were, expected {keep:.1%}")
        good, bad = 0, len(_TRIED)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if kept(_TRIED[middle]) >= keep else (good, middle)
        self._context.log(f"{_TRIED[good]:.0%} of the {self._wish.measure} may stay: {keep:.0%} of the answers are as they were")
        return _TRIED[good]

    def _usable(self, log: bool = False) -> list[Group]:
        groups, left_out = find_groups(self._module, self._few)
        for line in left_out if log else ():
            self._context.log(f"diagnosis: {line.replace('.0 ', ' ')}")
        return [group for group in groups if _label(group.name) not in self._wish.exclude]

    def _choice(self, group: Group, worth: tuple[float, ...]) -> Choice:
        whole = self._channels[group.name]
        multiple, fewest = self._wish.multiple, max(1, math.ceil((1 - self._wish.most) * whole))
        if whole < 2 * multiple:
            multiple, fewest = 1, (whole if multiple > _ANY_NUMBER_UP_TO else fewest)
        return Choice(group.name, worth, fewest, multiple)

    def _cost(self) -> float:
        if self._wish.measure == "channels":
            return float(sum(group.channels for group in self._usable()))
        return sum(costs_of(self._module, self._few, self._wish.measure).values())

    @staticmethod
    def _now(name: str, groups: Sequence[Group], gone: dict[str, list[int]]) -> int:
        before = next((group.channels for group in groups if group.name == name), 0)
        return before - len(gone.get(name, ()))


def _carry_out(
    module: nn.Module, few: Sequence[Tensor], groups: Sequence[Group], repair: Repair, gone: Mapping[str, Sequence[int]]
) -> None:
    """Cut channels out of a module in place, once what reads them makes do without."""
    for group in groups:
        repair.compensate(group, gone.get(group.name, ()))
    cut(module, few, gone)


def _in_parts(batches: Sequence[Sequence[Tensor]], size: int) -> list[list[Tensor]]:
    """The same samples in batches of at most ``size``."""
    return [list(parts) for batch in batches for parts in zip(*(item.split(size) for item in batch), strict=True)]


def _label(name: str) -> str:
    """A group's name without the place its layer has beside a BatchNorm of ours."""
    return name.removesuffix(".0")


def _count(context: Context, batch: int) -> int:
    return sum(len(item) for item in context.training(batch, 0))
