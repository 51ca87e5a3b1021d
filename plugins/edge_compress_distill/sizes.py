"""How wide a student may be to cost a share of the user's model, and what it then should cost. Pure."""

from __future__ import annotations

from edge_compress.plugin import Architecture, Cost, Expectation, ImageTask, ModelFacts
from edge_compress_distill.blocks import DEPTHWISE_SLOWER

PROPOSED_FIRST = "rep_vgg"
"""the architecture that onnxruntime is fastest with (decision 0004)"""
_STEP = 0.05
_USED = 0.33
"""share of the work that must be multiplications: a network of depthwise layers gets more out of each than plain convolutions do,
but where most of its time goes into the rest it is no match for them"""
_BYTES = 4
"""of a weight"""
_AROUND = 3000
"""bytes of a small graph beside its weights"""
_DEPTHWISE = (9, 25, 49)
"""multiply-accumulates for each number that a depthwise convolution of 3, 5 or 7 makes"""


def work_of(model: ModelFacts) -> float:
    """The model's arithmetic in the unit of ``Cost.work``: multiply-accumulates of plain convolutions."""
    return sum(
        layer.macs * (DEPTHWISE_SLOWER if _is_depthwise(layer.macs, layer.activation_bytes) else 1) for layer in model.layers
    )


def _is_depthwise(macs: int, activation_bytes: int) -> bool:
    numbers = activation_bytes // _BYTES
    return numbers > 0 and macs % numbers == 0 and macs // numbers in _DEPTHWISE


def width_for(kind: Architecture, task: ImageTask, work: float, weights: float) -> float | None:
    """The largest width, a multiple of 0.05, whose network stays within ``work`` and ``weights``, where it puts them to use; None
    where none does."""
    low, high = kind.widths
    widths = [round(_STEP * count, 2) for count in range(1, int(high / _STEP) + 1)]
    costs = {width: kind.cost(task, width) for width in widths if low <= width <= high}
    fitting = [width for width, cost in costs.items() if cost.work <= work and cost.weights <= weights]
    return max((width for width in fitting if costs[width].macs >= _USED * costs[width].work), default=None)


def expected(model: ModelFacts, cost: Cost) -> Expectation:
    """A student of this cost beside the model."""
    size = (_BYTES * cost.weights + _AROUND) / model.bytes if model.bytes else 1.0
    work = cost.work / max(1.0, work_of(model))
    return Expectation(bytes=size, download=size, latency=0.02 + 0.98 * work, memory=0.3 + 0.7 * min(1.0, work**0.5))
