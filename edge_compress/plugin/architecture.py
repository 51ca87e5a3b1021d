"""What a compact architecture is: a network of any width for a task, to be trained in place of the user's model.

An architecture knows images and scores and nothing else. The user's axis order, the range of the values, a softmax at the end
and the names of inputs and outputs are put around it by whoever trains it.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edge_compress.domain.model import ModelFacts
from edge_compress.plugin.strategy import Support

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ImageTask:
    """What a network must take and give: float images (N, channels, height, width) with a deviation near 1 in each channel,
    and one row of ``outputs`` numbers a sample (scores of classes without softmax, or an embedding)."""

    channels: int
    height: int
    width: int
    outputs: int

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width, self.outputs) < 1:
            raise ValueError(f"read {self}, expected positive sizes")


@dataclass(frozen=True)
class Cost:
    """What one inference of a network needs. ``macs`` and ``work`` in multiply-accumulates, ``weights`` as a count."""

    macs: float
    weights: float
    work: float
    """multiply-accumulates that plain convolutions do in the time that this takes: where kernels are slower for their few
    multiplications (depthwise convolutions, shuffles), it is more than ``macs``"""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.weights + other.weights, self.work + other.work)


class Architecture(abc.ABC):
    """Base of every architecture. Must be quick to load: import torch inside ``build`` only."""

    name: ClassVar[str]
    """unique among all plugins: ``mobilenet_v2``"""
    version: ClassVar[str] = "1"
    """change it when the same task, width and seed give another network"""
    widths: ClassVar[tuple[float, float]] = (0.05, 4.0)
    """smallest and largest width multiplier; 1.0 is the network as published"""

    def supports(self, model: ModelFacts, task: ImageTask) -> Support:
        """Whether a student of this kind makes sense for the user's model. Must be quick and read no file."""
        return Support.yes()

    @abc.abstractmethod
    def cost(self, task: ImageTask, width: float) -> Cost:
        """What ``build(task, width, …)`` costs once it is trained, without building it; grows with ``width``."""

    @abc.abstractmethod
    def build(self, task: ImageTask, width: float, seed: int) -> nn.Module:
        """A fresh ``torch.nn.Module`` with weights drawn from ``seed``.

        MUST be traceable by ``torch.fx`` (no branches on values), treat samples independently in eval mode, work for any batch
        size, and take and give what ``task`` says. Layers of torch's own and modules with ``emit_onnx`` are written at the user's
        opset. A module that has a method ``deployed() -> nn.Module`` is replaced by what it returns once training is over;
        BatchNorm behind a convolution is merged into it.
        """
