"""Rules for activations: torch's own layers where they are the same function, plain functions elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_compress.graph.bridge.rules import Plan, RefusedError, View, rule

_PLAIN: dict[str, Any] = {
    "Relu": nn.ReLU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "HardSwish": nn.Hardswish,
    "Softplus": nn.Softplus,
    "Softsign": nn.Softsign,
    "Mish": nn.Mish,
    "Identity": nn.Identity,
}
_SIXTH = 1 / 6


@rule(*_PLAIN)
def plain(view: View) -> Plan:
    """A layer without settings."""
    return Plan(_PLAIN[view.node.op]())


@rule("Dropout")
def dropout(view: View) -> Plan:
    """Dropout: at work in ``train()``, nothing otherwise."""
    if len(view.node.outputs) > 1:
        raise RefusedError("the mask as an output")
    ratio = view.attr("ratio", float(view.need(1, "the ratio")) if view.has(1) else 0.5)
    return Plan(nn.Dropout(min(max(ratio, 0.0), 1.0)))


@rule("LeakyRelu")
def leaky_relu(view: View) -> Plan:
    """LeakyReLU."""
    return Plan(nn.LeakyReLU(view.attr("alpha", 0.01)))


@rule("Elu")
def elu(view: View) -> Plan:
    """ELU."""
    return Plan(nn.ELU(view.attr("alpha", 1.0)))


@rule("Selu")
def selu(view: View) -> Plan:
    """SELU with any constants."""
    return Plan(partial(scaled_elu, alpha=view.attr("alpha", 1.6732632), gamma=view.attr("gamma", 1.050701)))


def scaled_elu(x: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """gamma * elu(x, alpha)."""
    return gamma * F.elu(x, alpha)


@rule("HardSigmoid")
def hard_sigmoid(view: View) -> Plan:
    """Hardsigmoid where the slope is torch's 1/6, max(0, min(1, alpha x + beta)) otherwise."""
    alpha, beta = view.attr("alpha", 0.2), view.attr("beta", 0.5)
    if abs(alpha - _SIXTH) < 1e-6 and beta == 0.5:
        return Plan(nn.Hardsigmoid())
    return Plan(partial(bent_line, alpha=alpha, beta=beta))


def bent_line(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """HardSigmoid with any slope."""
    return (alpha * x + beta).clamp(0, 1)


@rule("Gelu")
def gelu(view: View) -> Plan:
    """GELU, exact or by tanh."""
    return Plan(nn.GELU(approximate=view.attr("approximate", "none")))


@rule("Swish")
def swish(view: View) -> Plan:
    """SiLU, or x * sigmoid(alpha x)."""
    alpha = view.attr("alpha", 1.0)
    return Plan(nn.SiLU() if alpha == 1 else partial(sloped_swish, alpha=alpha))


def sloped_swish(x: Tensor, *, alpha: float) -> Tensor:
    """x * sigmoid(alpha x)."""
    return x * torch.sigmoid(alpha * x)


@rule("PRelu")
def prelu(view: View) -> Plan:
    """PReLU where there is one slope, or one for each channel."""
    slope = view.shape(1)
    per_channel = view.rank() > 1 and slope == (view.shape()[1], *[1] * (view.rank() - 2))
    if view.loose(1) or not (per_channel or all(size == 1 for size in slope)):
        return Plan(slope_below, (0, 1))
    count = view.shape()[1] if per_channel else 1
    layer = nn.PReLU(count, device="meta")
    layer.weight = view.parameter(1, f"slope{count}", lambda w: w.reshape(-1))
    return Plan(layer, weights={"weight": 1})


def slope_below(x: Tensor, slope: Tensor) -> Tensor:
    """PRelu with a slope that broadcasts."""
    return torch.where(x < 0, x * slope, x)


@rule("Clip")
def clip(view: View) -> Plan:
    """ReLU and ReLU6 where that is what it is."""
    if any(view.has(index) and view.constant(index) is None for index in (1, 2)):
        if not (view.has(1) and view.has(2)):
            raise RefusedError("one limit alone that is computed while the model runs")
        return Plan(torch.clamp, (0, 1, 2))
    low, high = (_limit(view, index, name) for index, name in ((1, "min"), (2, "max")))
    if view.value(0).probes[0].is_floating_point() and low == 0 and high in (None, 6):
        return Plan(nn.ReLU6() if high else nn.ReLU())
    return Plan(partial(torch.clamp, min=low, max=high)) if (low, high) != (None, None) else Plan(nn.Identity())


def _limit(view: View, index: int, name: str) -> Any:
    if view.has(index):
        return view.need(index, name).item()
    value = view.attr(name)
    return None if value is None or abs(value) > 3.4e38 else value


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(view: View) -> Plan:
    """Softmax along an axis; before opset 13 over everything from the axis on."""
    if view.node.op == "Hardmax":
        raise RefusedError("its gradient is zero everywhere")
    old = view.opset < 13
    axis = view.attr("axis", 1 if old else -1) % view.rank()
    if old and axis != view.rank() - 1:
        return Plan(partial(softmax_from, axis=axis, log=view.node.op == "LogSoftmax"))
    return Plan(nn.LogSoftmax(dim=axis) if view.node.op == "LogSoftmax" else nn.Softmax(dim=axis))


def softmax_from(x: Tensor, *, axis: int, log: bool) -> Tensor:
    """Over all axes from ``axis`` on, as one."""
    flat = x.flatten(axis)
    return (F.log_softmax(flat, -1) if log else F.softmax(flat, -1)).reshape(x.shape)


@rule("ThresholdedRelu")
def thresholded(view: View) -> Plan:
    """Threshold."""
    return Plan(nn.Threshold(view.attr("alpha", 1.0), 0.0))


@rule("Celu")
def celu(view: View) -> Plan:
    """CELU."""
    return Plan(nn.CELU(view.attr("alpha", 1.0)))


@rule("LRN")
def local_response(view: View) -> Plan:
    """LocalResponseNorm."""
    settings = {name: view.attr(name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75))}
    return Plan(nn.LocalResponseNorm(view.attr("size"), k=view.attr("bias", 1.0), **settings))
