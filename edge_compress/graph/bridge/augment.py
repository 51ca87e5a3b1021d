"""Light variety for training images: shifts and mirror images where the teacher says that they change nothing, and mixtures.

Whether the inputs are images at all is read from their shapes. Draws come from the caller's generators, so that they repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_compress.graph.bridge.answers import Answer, agreement
from edge_compress.graph.bridge.teacher import Teacher

SAME_ENOUGH = 0.9
"""share of the teacher's decisions that must survive a change for the change to be used"""
_SHIFT = 8
"""images are moved by up to 1/8 of their size"""
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Variety:
    """Which changes keep a sample what it is. ``axes``: height and width; None where the input is no image."""

    axes: tuple[int, int] | None = None
    mirror: bool = False
    shift: bool = False

    def vary(self, x: Tensor, random: np.random.Generator) -> Tensor:
        """Each image moved and mirrored on its own; same shape."""
        if self.axes is None:
            return x
        if self.shift:
            x = _moved(x, self.axes, random)
        if self.mirror:
            chosen = torch.from_numpy(random.random(len(x)) < 0.5).reshape(-1, *[1] * (x.dim() - 1))
            x = torch.where(chosen, x.flip(self.axes[1]), x)
        return x


def find_variety(teacher: Teacher, answers: Sequence[Answer], batches: Sequence[Sequence[Tensor]]) -> Variety:
    """What the teacher lets pass on these samples; nothing for models with several inputs or without decisions to compare."""
    first = batches[0]
    axes = image_axes(tuple(first[0].shape)) if len(first) == 1 and first[0].is_floating_point() else None
    if axes is None or any(item.kind == "values" for item in answers):
        return Variety()
    images = [batch[0] for batch in batches]

    def told(changed: Iterable[Tensor]) -> list[Tensor]:
        rows = [teacher.answer([batch])[0] for batch in changed]
        return [torch.cat(parts) for parts in zip(*rows, strict=True)]

    plain, random = told(images), np.random.default_rng(0)
    mirrored = told(batch.flip(axes[1]) for batch in images)
    moved = told(_moved(batch, axes, random) for batch in images)
    return Variety(axes, *(agreement(answers, item, plain) >= SAME_ENOUGH for item in (mirrored, moved)))


def image_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of a batch of images: (N, C, H, W) or (N, H, W, C) with 1, 3 or 4 channels and 16 pixels at least."""
    if len(shape) != 4:
        return None
    for channel, axes in ((1, (2, 3)), (3, (1, 2))):
        if shape[channel] in _CHANNELS and min(shape[axis] for axis in axes) >= 2 * _SHIFT:
            return axes
    return None


def _moved(x: Tensor, axes: tuple[int, int], random: np.random.Generator) -> Tensor:
    """Moved by whole pixels; what comes in from outside is the image reflected."""
    channels_last = axes == (1, 2)
    planes = x.permute(0, 3, 1, 2) if channels_last else x
    most = [planes.shape[axis] // _SHIFT for axis in (2, 3)]
    wide = F.pad(planes, (most[1], most[1], most[0], most[0]), mode="reflect")
    down, right = (torch.from_numpy(random.integers(0, 2 * size + 1, len(x))) for size in most)
    rows = (down[:, None] + torch.arange(planes.shape[2]))[:, None, :, None]
    columns = (right[:, None] + torch.arange(planes.shape[3]))[:, None, None, :]
    samples, channels = torch.arange(len(x))[:, None, None, None], torch.arange(planes.shape[1])[None, :, None, None]
    moved = wide[samples, channels, rows, columns]
    return moved.permute(0, 2, 3, 1).contiguous() if channels_last else moved


def mixed(inputs: Sequence[Tensor], strength: float, random: np.random.Generator) -> list[Tensor]:
    """Each sample with a share of another of its batch, from Beta(strength, strength) (Zhang et al. 2018, arXiv:1710.09412)."""
    share = torch.from_numpy(random.beta(strength, strength, len(inputs[0])).astype(np.float32))
    other = torch.from_numpy(random.permutation(len(inputs[0])))
    return [_blend(item, item[other], share) for item in inputs]


def _blend(left: Tensor, right: Tensor, share: Tensor) -> Tensor:
    if not left.is_floating_point():
        return left
    part = share.reshape(-1, *[1] * (left.dim() - 1)).to(left.dtype)
    return left * part + right * (1 - part)
