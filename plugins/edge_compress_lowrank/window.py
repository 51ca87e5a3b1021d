"""How a convolution moves over its input: kernel, strides, dilations and padding per axis, and the sizes that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import onnx

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """One entry per spatial axis. ``pads``: (before, after); ``auto_pad`` other than NOTSET decides them from the size."""

    kernel: Axes
    strides: Axes
    dilations: Axes
    pads: tuple[tuple[int, int], ...]
    auto_pad: str = "NOTSET"

    @classmethod
    def of(cls, node: onnx.NodeProto, kernel: Axes) -> Window:
        """The window of a Conv whose weight has this kernel."""
        found = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        ones, pads = [1] * len(kernel), list(found.get("pads", [0] * 2 * len(kernel)))
        automatic = found.get("auto_pad", b"NOTSET").decode()
        sides = tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
        return cls(kernel, tuple(found.get("strides", ones)), tuple(found.get("dilations", ones)), sides, automatic)

    def point(self) -> Window:
        """A window of one element that stays where it is."""
        ones = (1,) * len(self.kernel)
        return Window(ones, ones, ones, ((0, 0),) * len(ones))

    def along(self, axis: int) -> Window:
        """The part of this window that moves along one axis."""

        def only(values: tuple[Any, ...], rest: Any) -> tuple[Any, ...]:
            return tuple(value if index == axis else rest for index, value in enumerate(values))

        return replace(
            self,
            kernel=only(self.kernel, 1),
            strides=only(self.strides, 1),
            dilations=only(self.dilations, 1),
            pads=only(self.pads, (0, 0)),
        )

    def padding(self, size: Axes) -> tuple[tuple[int, int], ...]:
        """Zeros before and after each axis of an input of this size."""
        if self.auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
            return ((0, 0),) * len(size) if self.auto_pad == "VALID" else self.pads
        return tuple(self._same(axis, length) for axis, length in enumerate(size))

    def reach(self) -> Axes:
        """Elements from the first to the last that one output looks at."""
        return tuple((kernel - 1) * dilation + 1 for kernel, dilation in zip(self.kernel, self.dilations, strict=True))

    def output(self, size: Axes) -> Axes:
        """The size of what comes out."""
        padded = [length + before + after for length, (before, after) in zip(size, self.padding(size), strict=True)]
        return tuple((p - r) // s + 1 for p, r, s in zip(padded, self.reach(), self.strides, strict=True))

    def attributes(self) -> dict[str, Any]:
        """As attributes of a Conv node, those with their default left out."""
        found: dict[str, Any] = {"kernel_shape": list(self.kernel)}
        if any(stride != 1 for stride in self.strides):
            found["strides"] = list(self.strides)
        if any(dilation != 1 for dilation in self.dilations):
            found["dilations"] = list(self.dilations)
        if self.auto_pad != "NOTSET":
            found["auto_pad"] = self.auto_pad
        elif any(side for pair in self.pads for side in pair):
            found["pads"] = [pair[0] for pair in self.pads] + [pair[1] for pair in self.pads]
        return found

    def _same(self, axis: int, length: int) -> tuple[int, int]:
        stride = self.strides[axis]
        missing = max(0, (-(-length // stride) - 1) * stride + self.reach()[axis] - length)
        less, more = missing // 2, missing - missing // 2
        return (less, more) if self.auto_pad == "SAME_UPPER" else (more, less)
