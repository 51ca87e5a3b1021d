"""Rule for Resize and Upsample: torch's interpolation where it is the same function, coordinates by the ONNX text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_compress.graph.bridge.rules import Plan, RefusedError, View, rule
from edge_compress.graph.bridge.sheet import Call

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
_ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class Sampling:
    """How an output index becomes a place in the input."""

    mode: str
    """nearest or linear"""
    coordinates: str
    rounding: str

    def places(self, out: int, size: int, scale: float, device: torch.device) -> Tensor:
        """Where each of ``out`` elements lies on an axis of ``size``."""
        index = torch.arange(out, dtype=torch.float32, device=device)
        if self.coordinates == "align_corners":
            return index * ((size - 1) / (out - 1)) if out > 1 else index * 0
        if self.coordinates == "asymmetric":
            return index / scale
        if self.coordinates == "pytorch_half_pixel" and out <= 1:
            return index * 0
        middle = (index + 0.5) / scale - 0.5
        if self.coordinates == "half_pixel_symmetric":
            middle = middle + size / 2 * (1 - out / (scale * size))
        return middle

    def rows(self, places: Tensor, size: int) -> Tensor:
        """The nearest elements."""
        match self.rounding:
            case "floor":
                found = places.floor()
            case "ceil":
                found = places.ceil()
            case "round_prefer_ceil":
                found = (places + 0.5).floor()
            case _:
                found = (places - 0.5).ceil()
        return found.clamp(0, size - 1).long()


class Resize(nn.Module):
    """Some axes of a map made larger or smaller. ``scales`` by axis; ``sizes`` instead where the file gives those."""

    def __init__(self, axes: Sequence[int], scales: Sequence[float], sizes: Sequence[int] | None, how: Sampling) -> None:
        super().__init__()
        self.axes, self.scales, self.how = tuple(axes), tuple(scales), how
        self.sizes = tuple(sizes) if sizes is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Each axis by itself, or torch's kernel for all."""
        out = self.sizes or tuple(int(x.shape[axis] * scale) for axis, scale in zip(self.axes, self.scales, strict=True))
        if self._is_torchs(x.dim()):
            mode = "nearest" if self.how.mode == "nearest" else ("linear", "bilinear", "trilinear")[len(out) - 1]
            corners = None if mode == "nearest" else self.how.coordinates == "align_corners"
            return F.interpolate(x, size=out, mode=mode, align_corners=corners)
        for index, axis in enumerate(self.axes):
            scale = out[index] / x.shape[axis] if self.sizes else self.scales[index]
            x = self._along(x, axis, out[index], scale)
        return x

    def _is_torchs(self, rank: int) -> bool:
        whole = all(scale == int(scale) for scale in self.scales)
        usual = self.axes == tuple(range(2, rank)) and 3 <= rank <= 5 and whole
        if self.how.mode == "nearest":
            return usual and self.how.coordinates == "asymmetric" and self.how.rounding == "floor"
        return usual and self.how.coordinates in ("half_pixel", "align_corners")

    def _along(self, x: Tensor, axis: int, out: int, scale: float) -> Tensor:
        size = x.shape[axis]
        places = self.how.places(out, size, scale, x.device)
        if self.how.mode == "nearest":
            return x.index_select(axis, self.how.rows(places, size))
        places = places.clamp(0, size - 1)
        low = places.floor().long()
        weight = (places - low).to(x.dtype).reshape(-1, *[1] * (x.dim() - 1 - axis))
        below, above = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=size - 1))
        return below + (above - below) * weight

    def emit_onnx(self, call: Call) -> None:
        """The node again; sizes are taken from the input's shape for axes that stay."""
        if call.origin is None:
            raise RuntimeError("a Resize that was not imported")
        proto, sheet = call.origin.template.proto, call.sheet
        attributes = {item.name: item for item in proto.attribute}
        if self.sizes is None or "axes" in attributes:
            call.again(call.origin.template)
            return
        rank, first = len(call.shapes_in[0][0]), self.axes[0]
        shape = sheet.node("Shape", [call.input()], [sheet.fresh(f"{call.name}.shape")])
        kept = sheet.node(
            "Gather", [shape, sheet.integers(range(first), f"{call.name}.kept")], [sheet.fresh(f"{call.name}.head")]
        )
        tail = sheet.integers([*self.sizes, *[call.shapes_in[0][0][a] for a in range(first + len(self.axes), rank)]], call.name)
        sizes = sheet.node("Concat", [kept, tail], [sheet.fresh(f"{call.name}.sizes")], axis=0)
        unused = "" if sheet.opset >= 13 else sheet.constant(np.zeros(0, np.float32), f"{call.name}.unused")
        sheet.node(proto.op_type, [call.input(), unused, unused, sizes], call.outputs, call.name)
        sheet.nodes[-1].attribute.extend(attributes.values())


@rule("Resize", "Upsample")
def resize(view: View) -> Plan:
    """Nearest and linear; cubic, antialiasing and cropping are refused."""
    how = _sampling(view)
    rank = view.rank()
    axes = [axis % rank for axis in view.attr("axes", range(rank))]
    scales, sizes = _scales(view), _sizes(view)
    if sizes is None and not scales:
        raise RefusedError("neither scales nor sizes that are constant")
    before = [view.shape()[axis] for axis in axes]
    factors = scales or [out / size for out, size in zip(sizes or [], before, strict=True)]
    moved = [index for index, factor in enumerate(factors) if factor != 1]
    if not moved:
        return Plan(nn.Identity())
    moved = list(range(moved[0], moved[-1] + 1))
    if sizes is not None and any(size < 0 for size in (sizes[index] for index in moved)):
        raise RefusedError("sizes that are computed while the model runs")
    chosen = [sizes[index] for index in moved] if sizes is not None else None
    return Plan(Resize([axes[index] for index in moved], [factors[index] for index in moved], chosen, how))


def _sampling(view: View) -> Sampling:
    old = view.opset < 11 or view.node.op == "Upsample"
    coordinates = "asymmetric" if old else view.attr("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else view.attr("nearest_mode", "round_prefer_floor")
    mode = view.attr("mode", "nearest")
    stretched = view.attr("keep_aspect_ratio_policy", "stretch") == "stretch"
    if mode not in ("nearest", "linear") or view.attr("antialias", 0) or not stretched:
        raise RefusedError(f"mode {mode}, antialiasing or a kept aspect ratio; expected plain nearest or linear")
    if coordinates not in _COORDINATES or rounding not in _ROUNDING:
        raise RefusedError(f"coordinates {coordinates}, rounding {rounding}")
    return Sampling(mode, coordinates, rounding)


def _scales(view: View) -> list[float]:
    if "scales" in view.node.attributes:
        return [float(item) for item in view.attr("scales")]
    position = 1 if view.opset < 11 or view.node.op == "Upsample" else 2
    if not view.has(position) or not view.value(position).known:
        return []
    return [float(item) for item in view.need(position, "the scales").reshape(-1).tolist()]


def _sizes(view: View) -> list[int] | None:
    """The sizes by axis; the input's own where an axis keeps its size in every probe, -1 where it is free otherwise."""
    if not view.has(3) or not view.value(3).known:
        return None
    value, source = view.value(3), view.value(0)
    axes = view.attr("axes", range(view.rank()))
    found = []
    for index, axis in enumerate(axes):
        seen = [int(item[index]) for item in value.probes]
        same = all(size == probe.shape[axis] for size, probe in zip(seen, source.probes, strict=True))
        found.append(seen[0] if same or len(set(seen)) == 1 else -1)
    return found or None
