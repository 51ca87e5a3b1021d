"""Small random networks on images, from the blocks that networks for devices are made of. How operators are written is left to
``building``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.property.building import CLASSES, Builder, Network, model_of, normal, value


@dataclass
class Picture:
    """The newest tensor of an image network: ``channels`` x ``size`` x ``size``."""

    tensor: str
    channels: int
    size: int


def _conv(b: Builder, at: Picture, out: int, kernel: int = 3, *, group: int = 1, bias: bool = True, **attributes: Any) -> None:
    width = at.channels // group
    inputs = [at.tensor, b.weight(out, width, kernel, kernel, fan_in=width * kernel * kernel)]
    pads = [attributes.get("dilations", [1])[0] * (kernel // 2)] * 4
    at.tensor = b.add("Conv", *inputs, *([b.vector(out)] if bias else []), group=group, pads=pads, **attributes)
    at.channels = out


def plain(b: Builder, at: Picture) -> None:
    _conv(b, at, int(b.draw.choice([4, 6, 8])), int(b.draw.choice([1, 3])), bias=bool(b.draw.random() < 0.5))
    at.tensor = b.add("Relu", at.tensor)


def grouped(b: Builder, at: Picture) -> None:
    _conv(b, at, at.channels * 2 if at.channels < 8 else at.channels, group=2 if at.channels % 2 == 0 else 1)


def dilated(b: Builder, at: Picture) -> None:
    _conv(b, at, at.channels, dilations=[2, 2])
    at.tensor = b.add("LeakyRelu", at.tensor, alpha=0.1)


def fire(b: Builder, at: Picture) -> None:
    """Iandola et al. 2016: squeeze, then two kernels side by side."""
    _conv(b, at, 4, 1)
    squeezed = b.add("Relu", at.tensor)
    sides = []
    for kernel in (1, 3):
        side = Picture(squeezed, 4, at.size)
        _conv(b, side, 4, kernel)
        sides.append(b.add("Relu", side.tensor))
    at.tensor, at.channels = b.add("Concat", *sides, axis=1), 8


def inverted(b: Builder, at: Picture) -> None:
    """Sandler et al. 2018: widen, depthwise, narrow, add."""
    before, inside = at.tensor, Picture(at.tensor, at.channels, at.size)
    _conv(b, inside, at.channels * 3, 1)
    inside.tensor = b.clip(inside.tensor, 0.0, 6.0)
    _conv(b, inside, inside.channels, group=inside.channels)
    inside.tensor = b.clip(inside.tensor, 0.0, 6.0)
    _conv(b, inside, at.channels, 1)
    at.tensor = b.add("Add", before, inside.tensor)


def excited(b: Builder, at: Picture) -> None:
    """Hu et al. 2018, on dense layers."""
    pooled = b.add("Flatten", b.add("GlobalAveragePool", at.tensor))
    gate = b.linear(b.add("Relu", b.linear(pooled, at.channels, 4, flat=True)), 4, at.channels, flat=True)
    gate = b.add("HardSigmoid" if b.draw.random() < 0.5 else "Sigmoid", gate)
    at.tensor = b.add("Mul", at.tensor, b.unsqueeze(gate, 2, 3))


def shuffled(b: Builder, at: Picture) -> None:
    """Zhang et al. 2018: channels of two groups, interleaved."""
    if at.channels % 2:
        return
    parts = b.add("Reshape", at.tensor, b.ints(0, 2, at.channels // 2, at.size, at.size))
    turned = b.add("Transpose", parts, perm=[0, 2, 1, 3, 4])
    at.tensor = b.add("Reshape", turned, b.ints(0, at.channels, at.size, at.size))


def halves(b: Builder, at: Picture) -> None:
    """ShuffleNetV2 splits, works on one half and joins."""
    if at.channels % 2:
        return
    half = at.channels // 2
    left, right = b.split(at.tensor, [half, half], 1)
    work = Picture(right, half, at.size)
    _conv(b, work, half)
    at.tensor = b.add("Concat", left, b.add("Relu", work.tensor), axis=1)


def normed(b: Builder, at: Picture) -> None:
    _conv(b, at, at.channels, bias=False)
    scale, bias, mean, var = (b.vector(at.channels, low, high) for low, high in ((0.5, 2), (-1, 1), (-1, 1), (0.5, 2)))
    at.tensor = b.add("BatchNormalization", at.tensor, scale, bias, mean, var)


def instance(b: Builder, at: Picture) -> None:
    at.tensor = b.add("InstanceNormalization", at.tensor, b.vector(at.channels, 0.5, 2.0), b.vector(at.channels))


def sloped(b: Builder, at: Picture) -> None:
    at.tensor = b.add("PRelu", at.tensor, b.constant(b.draw.uniform(0, 0.5, (at.channels, 1, 1))))


def pooled(b: Builder, at: Picture) -> None:
    if at.size >= 4:
        op = str(b.draw.choice(["MaxPool", "AveragePool"]))
        at.tensor, at.size = b.add(op, at.tensor, kernel_shape=[2, 2], strides=[2, 2]), at.size // 2


def widened(b: Builder, at: Picture) -> None:
    if at.size <= 4:
        at.tensor, at.size = b.doubled(at.tensor), at.size * 2


def transposed(b: Builder, at: Picture) -> None:
    weights = b.weight(at.channels, 4, 3, 3, fan_in=at.channels * 9)
    at.tensor, at.channels = b.add("ConvTranspose", at.tensor, weights, pads=[1, 1, 1, 1]), 4


def cropped(b: Builder, at: Picture) -> None:
    wide = b.pad(at.tensor, [0, 0, 1, 1, 0, 0, 1, 1])
    at.tensor = b.slice(b.slice(wide, 0, at.size, 2), 1, at.size + 1, 3)


def curved(b: Builder, at: Picture) -> None:
    newer = ["HardSwish"] * (b.opset >= 14) + ["Mish"] * (b.opset >= 18) + ["Gelu"] * (b.opset >= 20)
    at.tensor = b.add(str(b.draw.choice(["Sigmoid", "Tanh", "Elu", "Softplus", "Selu", *newer])), at.tensor)


BLOCKS: tuple[Callable[[Builder, Picture], None], ...] = (
    plain, grouped, dilated, fire, inverted, excited, shuffled, halves, normed, instance, sloped, pooled, widened, transposed,
    cropped, curved,
)  # fmt: skip


def _head(b: Builder, at: Picture) -> str:
    """Pooled in one of the ways exporters write it, and a dense layer."""
    way = str(b.draw.choice(["average", "max", "mean", "flat"]))
    if way == "flat":
        flat, width = b.add("Flatten", at.tensor), at.channels * at.size * at.size
    elif way == "mean":
        flat, width = b.mean(at.tensor, 2, 3, keepdims=0), at.channels
    else:
        op = "GlobalAveragePool" if way == "average" else "GlobalMaxPool"
        flat, width = b.add("Flatten", b.add(op, at.tensor)), at.channels
    return b.linear(flat, width, CLASSES, flat=True)


def image(b: Builder) -> Network:
    channels, size = int(b.draw.choice([1, 3, 4])), 8
    at = Picture("x", channels, size)
    _conv(b, at, 8)
    for index in b.draw.integers(0, len(BLOCKS), int(b.draw.integers(2, 6))):
        BLOCKS[index](b, at)
    outputs = [value(_head(b, at), ["N", CLASSES])]
    if b.draw.random() < 0.3:
        outputs.append(value(at.tensor, ["N", at.channels, at.size, at.size]))
    inputs = [value("x", ["N", channels, size, size])]
    return Network(model_of(b, inputs, outputs), {"x": normal(b, channels, size, size)})


def any_size(b: Builder) -> Network:
    """Height and width are free, as in detectors and segmenters."""
    at = Picture("x", 3, 8)
    _conv(b, at, 8)
    for block in (plain, dilated, fire, inverted, normed):
        if b.draw.random() < 0.5:
            block(b, at)
    free = ["N", at.channels, "H", "W"]
    outputs = [value(at.tensor, free)]
    return Network(model_of(b, [value("x", ["N", 3, "H", "W"])], outputs), {"x": normal(b, 3, 8, 8)})
