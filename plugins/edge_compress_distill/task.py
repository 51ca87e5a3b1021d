"""What a student must take and give, read from the shapes of the user's model; or why no student can. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_compress.plugin import ImageTask, TensorFacts

_MOST_CHANNELS = 16
_SMALLEST = 4
"""pixels of each side under which there is nothing to convolve"""


@dataclass(frozen=True)
class Interface:
    """The task, and how the user's model has its images."""

    task: ImageTask
    channels_last: bool


def read_interface(inputs: Sequence[TensorFacts], outputs: Sequence[TensorFacts]) -> Interface | str:
    """The interface, or the reason why compact networks do not apply (completes "does not apply, because …")."""
    if len(inputs) != 1 or len(outputs) != 1:
        return f"the model has {len(inputs)} inputs and {len(outputs)} outputs; students have one of each"
    (image,), (answer,) = inputs, outputs
    if image.dtype != "float32" or answer.dtype != "float32":
        return f"it turns {image.dtype} into {answer.dtype}; students turn float32 into float32"
    if len(image.shape) != 4:
        return f"its input {image.name!r} has {len(image.shape)} axes; students take images (N, C, H, W) or (N, H, W, C)"
    if not all(isinstance(size, int) for size in image.shape[1:]):
        return f"the size of its input {image.name!r} is free; students are built for one size"
    if len(answer.shape) != 2 or not isinstance(answer.shape[1], int):
        return f"its output {answer.name!r} has the shape {_shown(answer.shape)}; students give one row of numbers a sample"
    return _images(image, answer.shape[1])


def _images(image: TensorFacts, outputs: int) -> Interface | str:
    _, first, middle, last = image.shape
    channels_last = last < first
    channels, height, width = (last, first, middle) if channels_last else (first, middle, last)
    if channels > _MOST_CHANNELS:
        return f"its input {image.name!r} {_shown(image.shape)} has {channels} channels; students take 1 to {_MOST_CHANNELS}"
    if min(height, width) < _SMALLEST:
        return f"its images of {height} x {width} are too small for convolutions of 3 x 3"
    return Interface(ImageTask(channels, height, width, outputs), channels_last)


def _shown(shape: Sequence[object]) -> str:
    return "(" + ", ".join(str(axis) if axis != "" else "N" for axis in shape) + ")"
