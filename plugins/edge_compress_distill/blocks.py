"""The parts that the compact networks are made of, as plain values: what each takes, gives and costs. No torch here.

A network is a row of blocks; ``cost_of`` adds up what they cost, ``nets`` makes modules of them. Which blocks follow each other
is left to the architectures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_compress.plugin import Cost, ImageTask

Size = tuple[int, int]
"""height and width of a map, or a stride along each"""

ONE: Size = (1, 1)
DEPTHWISE_SLOWER = 15.0
_SHUFFLE = 200.0
"""How many multiply-accumulates of plain convolutions onnxruntime's kernels do in the time of one depthwise one, and in the time
in which a shuffle moves a number. On one thread a depthwise one takes 9 times as long in float32 and 16 to 21 times in int8, a
number moved 80 and 300 (decision 0004)."""


def rounded(channels: float) -> int:
    """The nearest multiple of 8, never less than 8 and never 10% below what was asked (Sandler et al. 2018)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def after(size: Size, stride: Size) -> Size:
    """The size of a map after a padded convolution that strides."""
    return -(-size[0] // stride[0]), -(-size[1] // stride[1])


def strides(task: ImageTask, places: int, smallest: int) -> list[Size]:
    """The stride at each of ``places`` where a network may halve its maps: the last places do so first, and neither axis falls
    below ``smallest`` pixels by it. For 224 pixels and 7 that is five times; small inputs are not reduced to nothing."""
    rows, columns = (min(places, max(0, int(math.log2(max(1, side / smallest))))) for side in (task.height, task.width))
    return [(1 + (place >= places - rows), 1 + (place >= places - columns)) for place in range(places)]


def _conv(size: Size, inputs: int, outputs: int, kernel: int) -> Cost:
    weights = inputs * outputs * kernel**2
    macs = float(weights * size[0] * size[1])
    return Cost(macs, weights + outputs, macs)


def _depthwise(size: Size, channels: int) -> Cost:
    macs = float(9 * channels * size[0] * size[1])
    return Cost(macs, 10 * channels, DEPTHWISE_SLOWER * macs)


@dataclass(frozen=True)
class Plain:
    """A convolution, BatchNorm and ReLU."""

    inputs: int
    outputs: int
    kernel: int = 3
    stride: Size = ONE
    limit: bool = False
    """ReLU6 in place of ReLU"""

    def cost(self, size: Size) -> Cost:
        """For an input map of ``size``."""
        return _conv(after(size, self.stride), self.inputs, self.outputs, self.kernel)


@dataclass(frozen=True)
class Rep:
    """A 3 x 3 convolution that is trained as three branches and becomes one (Ding et al. 2021, arXiv:2101.03697)."""

    inputs: int
    outputs: int
    stride: Size = ONE

    def cost(self, size: Size) -> Cost:
        """For an input map of ``size``, once it is one convolution."""
        return _conv(after(size, self.stride), self.inputs, self.outputs, 3)


@dataclass(frozen=True)
class Inverted:
    """MobileNetV2's block: wide inside, depthwise in the middle, thin and linear between blocks."""

    inputs: int
    outputs: int
    expansion: int
    stride: Size = ONE

    @property
    def inner(self) -> int:
        """Channels of the wide part."""
        return self.inputs * self.expansion

    def cost(self, size: Size) -> Cost:
        """For an input map of ``size``."""
        inside = after(size, self.stride)
        thin = _depthwise(inside, self.inner) + _conv(inside, self.inner, self.outputs, 1)
        return thin if self.expansion == 1 else _conv(size, self.inputs, self.inner, 1) + thin


@dataclass(frozen=True)
class Shuffled:
    """ShuffleNetV2's unit: half of the channels pass by, and the halves are shuffled; where it strides, both halves are made."""

    inputs: int
    outputs: int
    stride: Size = ONE

    @property
    def half(self) -> int:
        """Channels of one branch."""
        return self.outputs // 2

    @property
    def splits(self) -> bool:
        """Whether half of the channels pass by unchanged."""
        return self.stride == ONE and self.inputs == self.outputs

    def cost(self, size: Size) -> Cost:
        """For an input map of ``size``."""
        inside, half = after(size, self.stride), self.half
        inputs = half if self.splits else self.inputs
        main = _conv(size, inputs, half, 1) + _depthwise(inside, half) + _conv(inside, half, half, 1)
        moved = Cost(0, 0, _SHUFFLE * self.outputs * inside[0] * inside[1])
        side = Cost(0, 0, 0) if self.splits else _depthwise(inside, self.inputs) + _conv(inside, self.inputs, half, 1)
        return main + side + moved


Block = Plain | Rep | Inverted | Shuffled


def cost_of(blocks: Sequence[Block], task: ImageTask) -> Cost:
    """The blocks one after the other, the mean over all places, and a matrix to the outputs."""
    size, last = (task.height, task.width), blocks[-1].outputs
    total = Cost(float(last * task.outputs), (last + 1) * task.outputs, float(last * task.outputs))
    for block in blocks:
        total, size = total + block.cost(size), after(size, block.stride)
    return total
