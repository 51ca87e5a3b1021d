"""How many channels of each group go: greedy by importance lost per cost saved, down to a target. Arithmetic only.

Cost is what counts: multiply-accumulates, weights or channels. Costs fall as neighbours shrink and are worked out again after
each step, so the result does not depend on which layer is looked at first. Finding importances is left to others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """What a layer costs whole. ``reads``, ``makes``: the share of its input and output channels that each group holds."""

    cost: float
    reads: Mapping[str, float]
    makes: Mapping[str, float]

    def now(self, kept: Mapping[str, float]) -> float:
        """Its cost with shares of the groups' channels ``kept``."""
        left = 1.0
        for side in (self.reads, self.makes):
            left *= 1.0 - sum(share * (1.0 - kept.get(name, 1.0)) for name, share in side.items())
        return self.cost * left


@dataclass(frozen=True)
class Choice:
    """A group to cut from. ``importance``: what losing each channel costs in quality, by its number.

    At least ``fewest`` are left, and a multiple of ``multiple``.
    """

    name: str
    importance: tuple[float, ...]
    fewest: int
    multiple: int

    @property
    def order(self) -> list[int]:
        """Channels, the least important first."""
        return sorted(range(len(self.importance)), key=lambda channel: (self.importance[channel], channel))

    def next_step(self, gone: int) -> int:
        """How many more channels go in one step when ``gone`` are gone already; 0: none may."""
        left = len(self.importance) - gone
        step = left % self.multiple or self.multiple
        return step if left - step >= max(self.fewest, 1) else 0


def share_out(choices: Sequence[Choice], layers: Sequence[Layer], target: float) -> dict[str, list[int]]:
    """Group name -> the channels to cut so that at most ``target`` of the cost is left, or as little as the groups allow."""
    whole = {item.name: len(item.importance) for item in choices}
    gone = dict.fromkeys(whole, 0)
    goal = target * _cost(layers, whole, gone)
    while _cost(layers, whole, gone) > goal:
        found = [(_price(item, layers, whole, gone), item.name) for item in choices if item.next_step(gone[item.name])]
        payable = [pair for pair in found if pair[0] != float("inf")]
        if not payable:
            break
        _, name = min(payable)
        chosen = next(item for item in choices if item.name == name)
        gone[name] += chosen.next_step(gone[name])
    return {item.name: sorted(item.order[: gone[item.name]]) for item in choices if gone[item.name]}


def cost_left(layers: Sequence[Layer], whole: Mapping[str, int], gone: Mapping[str, int]) -> float:
    """The share of the cost that is left when ``gone`` of the ``whole`` channels of each group are cut."""
    return _cost(layers, whole, gone) / max(_cost(layers, whole, {}), 1e-12)


def _cost(layers: Sequence[Layer], whole: Mapping[str, int], gone: Mapping[str, int]) -> float:
    kept = {name: 1.0 - gone.get(name, 0) / count for name, count in whole.items()}
    return sum(layer.now(kept) for layer in layers)


def _price(choice: Choice, layers: Sequence[Layer], whole: Mapping[str, int], gone: Mapping[str, int]) -> float:
    """Importance lost by the next step of a group per cost saved."""
    start = gone[choice.name]
    step = choice.next_step(start)
    touched = [layer for layer in layers if choice.name in layer.reads or choice.name in layer.makes]
    saved = _cost(touched, whole, gone) - _cost(touched, whole, {**gone, choice.name: start + step})
    lost = sum(choice.importance[channel] for channel in choice.order[start : start + step])
    return lost / saved if saved > 0 else float("inf")
