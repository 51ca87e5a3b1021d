"""shufflenet_v2: units that split, shuffle and join channels. Source: Ma et al. 2018, arXiv:1807.11164, table 5.

The paper's four sizes have channels of their own; here its 1x network is scaled, in multiples of 16, since halves are multiples
of 8. The max pooling behind the stem is a stride of the stem's neighbour here, small inputs are halved fewer times, and the last
1 x 1 convolution is scaled with the width too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_compress.plugin import Architecture, Cost, ImageTask
from edge_compress_distill.blocks import ONE, Block, Plain, Shuffled, cost_of, rounded, strides

if TYPE_CHECKING:
    from torch import nn

_STEM, _LAST = 24, 1024
_STAGES = ((116, 4), (232, 8), (464, 4))
"""channels, how many units"""
_PLACES = 5
_SMALLEST = 4


class ShuffleNetV2(Architecture):
    """ShuffleNetV2 at any width, for images of any size."""

    name = "shufflenet_v2"

    def cost(self, task: ImageTask, width: float) -> Cost:
        """By its blocks."""
        return cost_of(blocks(task, width), task)

    def build(self, task: ImageTask, width: float, seed: int) -> nn.Module:
        """Fresh weights, BatchNorm behind each convolution."""
        from edge_compress_distill.nets import build

        return build(blocks(task, width), task, seed)


def blocks(task: ImageTask, width: float) -> list[Block]:
    """The network for a task, in order."""
    stem, second, *halved = strides(task, _PLACES, _SMALLEST)
    channels = rounded(_STEM * width)
    made: list[Block] = [Plain(task.channels, channels, stride=stem)]
    if second != ONE:
        made.append(Plain(channels, channels, stride=second))
    for (base, count), stride in zip(_STAGES, halved, strict=True):
        outputs = 2 * rounded(base * width / 2)
        made += [Shuffled(channels, outputs, stride), *[Shuffled(outputs, outputs)] * (count - 1)]
        channels = outputs
    return [*made, Plain(channels, rounded(_LAST * width), kernel=1)]
