"""rep_vgg: nothing but 3 x 3 convolutions and ReLU, once it is trained. Source: Ding et al. 2021, arXiv:2101.03697.

Plain convolutions are what onnxruntime's processor kernels are fastest with: on small images it answers sooner than networks of
depthwise layers with a fraction of its multiplications. Depth follows the input's size instead of the paper's five stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_compress.plugin import Architecture, Cost, ImageTask
from edge_compress_distill.blocks import ONE, Block, Rep, cost_of, rounded, strides

if TYPE_CHECKING:
    from torch import nn

_FIRST = 32
_DEPTHS = {1: (4,), 2: (3, 5), 3: (2, 3, 5), 4: (2, 3, 6, 2)}
"""stages behind the stem -> layers of each; channels double from stage to stage"""
_PLACES = 5
_SMALLEST = 7


class RepVgg(Architecture):
    """Plain 3 x 3 convolutions, trained with branches (RepVGG), for images of any size."""

    name = "rep_vgg"

    def cost(self, task: ImageTask, width: float) -> Cost:
        """By its blocks."""
        return cost_of(blocks(task, width), task)

    def build(self, task: ImageTask, width: float, seed: int) -> nn.Module:
        """Fresh weights in three branches a layer, which become one."""
        from edge_compress_distill.nets import build

        return build(blocks(task, width), task, seed)


def blocks(task: ImageTask, width: float) -> list[Block]:
    """The network for a task, in order."""
    halving = [stride for stride in strides(task, _PLACES, _SMALLEST) if stride != ONE]
    stem, stages = (halving[0], halving[1:]) if len(halving) > 3 else (ONE, halving or [ONE])
    channels = rounded(_FIRST * width)
    made: list[Block] = [Rep(task.channels, channels, stem)]
    for number, (stride, depth) in enumerate(zip(stages, _DEPTHS[len(stages)], strict=True)):
        outputs = rounded(_FIRST * width * 2 ** (number + 1))
        made += [Rep(channels, outputs, stride), *[Rep(outputs, outputs)] * (depth - 1)]
        channels = outputs
    return made
