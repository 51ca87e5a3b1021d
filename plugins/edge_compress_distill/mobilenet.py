"""mobilenet_v2: inverted residuals and linear bottlenecks. Source: Sandler et al. 2018, arXiv:1801.04381, table 2.

Two things differ for students: small inputs are halved fewer times (the first places stay at full size), and the last 1 x 1
convolution is scaled with the width below 1.0 too, since it would outweigh the rest where there are few classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_compress.plugin import Architecture, Cost, ImageTask
from edge_compress_distill.blocks import ONE, Block, Inverted, Plain, cost_of, rounded, strides

if TYPE_CHECKING:
    from torch import nn

_STEM, _LAST = 32, 1280
_TABLE = ((1, 16, 1, False), (6, 24, 2, True), (6, 32, 3, True), (6, 64, 4, True), (6, 96, 3, False), (6, 160, 3, True),
          (6, 320, 1, False))  # fmt: skip
"""expansion, channels, how many blocks, whether the first may halve the map"""
_PLACES = 5
_SMALLEST = 4
"""pixels that each side of the last map has at least, where the input has them"""


class MobileNetV2(Architecture):
    """MobileNetV2 at any width, for images of any size."""

    name = "mobilenet_v2"

    def cost(self, task: ImageTask, width: float) -> Cost:
        """By its blocks."""
        return cost_of(blocks(task, width), task)

    def build(self, task: ImageTask, width: float, seed: int) -> nn.Module:
        """Fresh weights, BatchNorm behind each convolution."""
        from edge_compress_distill.nets import build

        return build(blocks(task, width), task, seed)


def blocks(task: ImageTask, width: float) -> list[Block]:
    """The network for a task, in order."""
    halved = iter(strides(task, _PLACES, _SMALLEST))
    channels = rounded(_STEM * width)
    made: list[Block] = [Plain(task.channels, channels, stride=next(halved), limit=True)]
    for expansion, base, count, may_halve in _TABLE:
        outputs = rounded(base * width)
        for number in range(count):
            stride = next(halved) if may_halve and number == 0 else ONE
            made.append(Inverted(channels, outputs, expansion, stride))
            channels = outputs
    return [*made, Plain(channels, rounded(_LAST * width), kernel=1, limit=True)]
