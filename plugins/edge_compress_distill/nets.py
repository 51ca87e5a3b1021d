"""The blocks as torch modules, with fresh weights. Imports torch: loaded only where a network is really built."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from edge_compress.plugin import ImageTask
from edge_compress_distill.blocks import ONE, Block, Inverted, Plain, Rep, Shuffled, Size


class Network(nn.Sequential):
    """Blocks, the mean over all places, and a matrix to the outputs."""


def build(blocks: Sequence[Block], task: ImageTask, seed: int) -> Network:
    """The network with weights from ``seed``: He et al. 2015 for convolutions."""
    for before, block in pairwise(blocks):
        assert before.outputs == block.inputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = [_MODULES[type(block)](block) for block in blocks]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(blocks[-1].outputs, task.outputs)]
        return Network(*parts, *head)


def _normed(inputs: int, outputs: int, kernel: int, stride: Size = ONE, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs)]


def _plain(block: Plain) -> nn.Module:
    active = nn.ReLU6() if block.limit else nn.ReLU()
    return nn.Sequential(*_normed(block.inputs, block.outputs, block.kernel, block.stride), active)


class InvertedBlock(nn.Module):
    """See ``blocks.Inverted``."""

    def __init__(self, block: Inverted) -> None:
        super().__init__()
        wide = [*_normed(block.inputs, block.inner, 1), nn.ReLU6()] if block.expansion > 1 else []
        deep = [*_normed(block.inner, block.inner, 3, block.stride, block.inner), nn.ReLU6()]
        self.body = nn.Sequential(*wide, *deep, *_normed(block.inner, block.outputs, 1))
        self.residual = block.stride == ONE and block.inputs == block.outputs

    def forward(self, x: Tensor) -> Tensor:
        """The body, beside what came in where that has the same shape."""
        made: Tensor = self.body(x)
        return x + made if self.residual else made


class ShuffledBlock(nn.Module):
    """See ``blocks.Shuffled``."""

    def __init__(self, block: Shuffled) -> None:
        super().__init__()
        half, inputs = block.half, block.half if block.splits else block.inputs
        self.left = Half(0, half) if block.splits else nn.Sequential(
            *_normed(inputs, inputs, 3, block.stride, inputs), *_normed(inputs, half, 1), nn.ReLU()
        )  # fmt: skip
        self.right = Half(1, half) if block.splits else nn.Identity()
        self.main = nn.Sequential(
            *_normed(inputs, half, 1), nn.ReLU(), *_normed(half, half, 3, block.stride, half), *_normed(half, half, 1), nn.ReLU()
        )
        self.join = Shuffle(half)

    def forward(self, x: Tensor) -> Tensor:
        """One half by the main branch, the other beside it, shuffled."""
        made: Tensor = self.join(self.left(x), self.main(self.right(x)))
        return made


class Half(nn.Module):
    """The first (0) or second (1) half of the channels."""

    def __init__(self, which: int, channels: int) -> None:
        super().__init__()
        self.which, self.channels = which, channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2 C, H, W) -> (N, C, H, W)."""
        return x.narrow(1, self.which * self.channels, self.channels)

    def emit_onnx(self, call: Any) -> None:
        """Slice along the channels."""
        start, end = self.which * self.channels, (self.which + 1) * self.channels
        if call.sheet.opset < 10:
            call.write("Slice", [call.input()], axes=[1], starts=[start], ends=[end])
            return
        limits = [
            call.sheet.integers([value], f"{call.name}.{what}") for what, value in (("from", start), ("to", end), ("axis", 1))
        ]
        call.write("Slice", [call.input(), *limits])


class Shuffle(nn.Module):
    """Joins two halves so that their channels take turns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Twice (N, C, H, W) -> (N, 2 C, H, W)."""
        return torch.stack([left, right], 2).flatten(1, 2)

    def emit_onnx(self, call: Any) -> None:
        """Concat, then channels as a matrix of two rows that is transposed."""
        sheet, shape = call.sheet, call.shapes_out[0][0]
        joined = sheet.node("Concat", [call.input(0), call.input(1)], [sheet.fresh(f"{call.name}.joined")], axis=1)
        rows = sheet.integers([0, 2, self.channels, *shape[2:]], f"{call.name}.rows")
        split = sheet.node("Reshape", [joined, rows], [sheet.fresh(f"{call.name}.split")])
        turned = sheet.node("Transpose", [split], [sheet.fresh(f"{call.name}.turned")], perm=[0, 2, 1, 3, 4])
        call.write("Reshape", [turned, sheet.integers([0, *shape[1:]], f"{call.name}.back")])


class RepBlock(nn.Module):
    """See ``blocks.Rep``."""

    def __init__(self, block: Rep) -> None:
        super().__init__()
        self.three = nn.Sequential(*_normed(block.inputs, block.outputs, 3, block.stride))
        self.one = nn.Sequential(*_normed(block.inputs, block.outputs, 1, block.stride))
        self.none = nn.BatchNorm2d(block.outputs) if block.stride == ONE and block.inputs == block.outputs else None
        self.active = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the branches, then ReLU."""
        made = self.three(x) + self.one(x)
        active: Tensor = self.active(made if self.none is None else made + self.none(x))
        return active

    def deployed(self) -> nn.Module:
        """One convolution and ReLU that answer as this does in eval mode."""
        three: Any = self.three[0]
        wide = nn.functional.pad(cast(Tensor, self.one[0].weight), (1, 1, 1, 1))
        kernels = [_scaled(three.weight, self.three[1]), _scaled(wide, self.one[1])]
        if self.none is not None:
            kernels.append(_scaled(nn.init.dirac_(torch.zeros_like(three.weight)), self.none))
        merged: Any = nn.Conv2d(three.in_channels, three.out_channels, 3, three.stride, 1)
        with torch.no_grad():
            merged.weight.copy_(torch.stack([weight for weight, _ in kernels]).sum(0))
            merged.bias.copy_(torch.stack([bias for _, bias in kernels]).sum(0))
        return nn.Sequential(merged, nn.ReLU())


def _scaled(weight: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """Weights and biases that a BatchNorm behind ``weight`` makes of it, in float64."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return weight.double() * scale.reshape(-1, 1, 1, 1), norm.bias.double() - norm.running_mean.double() * scale


_MODULES: dict[type, Any] = {Plain: _plain, Rep: RepBlock, Inverted: InvertedBlock, Shuffled: ShuffledBlock}
