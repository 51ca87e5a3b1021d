"""Rules for operators with weights that become torch's own layers, so that pruning and quantisation tools know them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_compress.graph.bridge.rules import Plan, RefusedError, View, rule

_CONVS: dict[int, tuple[Any, Any]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}
_NORMS: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE: dict[int, Any] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def spatial(view: View, rank: int) -> dict[str, Any]:
    """Strides and dilations of a convolution or pooling."""
    return {name: tuple(view.attr(f"{name}s", [1] * rank)) for name in ("stride", "dilation")}


def pads_of(view: View, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """Begins, then ends. Raises RefusedError where ``auto_pad`` depends on a size that is free."""
    rank, how = len(kernel), view.attr("auto_pad", "NOTSET")
    if how == "VALID":
        return (0,) * 2 * rank
    if how == "NOTSET":
        return tuple(view.attr("pads", [0] * 2 * rank))
    totals = {tuple(map(_same_pad, probe.shape[2:], kernel, stride, dilation)) for probe in view.value(0).probes}
    if len(totals) > 1:
        raise RefusedError(f"auto_pad {how} depends on an input size that is free; export with explicit pads")
    total = totals.pop()
    small = [pad // 2 for pad in total]
    large = [pad - half for pad, half in zip(total, small, strict=True)]
    return (*small, *large) if how == "SAME_UPPER" else (*large, *small)


def _same_pad(size: int, kernel: int, stride: int, dilation: int) -> int:
    return max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)


def sides(pads: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(what torch's symmetric ``padding`` takes, what must be put around before)."""
    half = len(pads) // 2
    return (pads[:half], ()) if pads[:half] == pads[half:] else ((0,) * half, pads)


def fill(view: View, layer: nn.Module, **positions: int) -> Plan:
    """Give the layer, made on the meta device, its parameters from the inputs at these positions."""
    given = {name: index for name, index in positions.items() if view.has(index)}
    for name, index in given.items():
        setattr(layer, name, view.parameter(index))
    return Plan(layer, weights=given)


@rule("Conv")
def conv(view: View) -> Plan:
    """Conv1d to Conv3d; unlike pads go before."""
    _, _, *kernel = view.shape(1)
    geometry = spatial(view, len(kernel))
    padding, before = sides(pads_of(view, tuple(kernel), geometry["stride"], geometry["dilation"]))
    groups = view.attr("group", 1)
    if len(kernel) not in _CONVS:
        raise RefusedError(f"{len(kernel)} spatial axes; expected 1 to 3")
    if view.loose(1, 2):
        function = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
        if before:
            raise RefusedError("a kernel that is no plain constant together with unlike pads")
        args = (0, 1, 2) if view.has(2) else (0, 1)
        return Plan(partial(function, padding=padding, groups=groups, **geometry), args)
    out, inner = view.shape(1)[:2]
    layer = _CONVS[len(kernel)][0](
        inner * groups, out, tuple(kernel), padding=padding, groups=groups, bias=view.has(2), device="meta", **geometry
    )
    plan = fill(view, layer, weight=1, bias=2)
    return Plan(plan.module, weights=plan.weights, pads=before)


@rule("ConvTranspose")
def conv_transpose(view: View) -> Plan:
    """ConvTranspose1d to 3d with equal pads on both sides."""
    inner, per_group, *kernel = view.shape(1)
    rank = len(kernel)
    if view.attr("output_shape") or view.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise RefusedError("output_shape or auto_pad; expected explicit pads")
    padding, unlike = sides(tuple(view.attr("pads", [0] * 2 * rank)))
    if unlike or view.loose(1, 2) or rank not in _CONVS:
        raise RefusedError("unlike pads on the two sides, more than 3 spatial axes or a kernel that is no plain constant")
    groups, extra = view.attr("group", 1), tuple(view.attr("output_padding", [0] * rank))
    layer = _CONVS[rank][1](
        inner, per_group * groups, tuple(kernel), padding=padding, output_padding=extra, groups=groups, bias=view.has(2),
        device="meta", **spatial(view, rank),
    )  # fmt: skip
    return fill(view, layer, weight=1, bias=2)


@rule("BatchNormalization")
def batch_norm(view: View) -> Plan:
    """BatchNorm1d to 3d with its affine trainable; ``train()`` makes it use and follow the batch's statistics."""
    if view.attr("training_mode", 0) or len(view.node.outputs) > 1:
        raise RefusedError("a graph in training mode; export it for inference")
    if view.rank() not in _NORMS or view.attr("spatial", 1) != 1 or view.loose(1, 2):
        raise RefusedError("statistics that are no plain constants, or a rank other than 2 to 5")
    mean, variance = view.need(3, "the mean"), view.need(4, "the variance")
    layer = _NORMS[view.rank()](len(mean), eps=view.attr("epsilon", 1e-5), momentum=1 - view.attr("momentum", 0.9), device="meta")
    layer.register_buffer("running_mean", mean.clone())
    layer.register_buffer("running_var", variance.clone())
    layer.register_buffer("num_batches_tracked", torch.tensor(0))
    plan = fill(view, layer, weight=1, bias=2)
    return Plan(plan.module, weights={**plan.weights, "running_mean": 3, "running_var": 4})


@rule("InstanceNormalization")
def instance_norm(view: View) -> Plan:
    """InstanceNorm1d to 3d."""
    if view.rank() not in _INSTANCE or view.loose(1, 2):
        raise RefusedError("a scale that is no plain constant, or a rank other than 3 to 5")
    layer = _INSTANCE[view.rank()](view.shape(1)[0], eps=view.attr("epsilon", 1e-5), affine=True, device="meta")
    return fill(view, layer, weight=1, bias=2)


@rule("GroupNormalization")
def group_norm(view: View) -> Plan:
    """GroupNorm; before opset 21 its scale is one for each group."""
    if view.loose(1, 2):
        raise RefusedError("a scale that is no plain constant")
    channels, groups = view.shape()[1], view.attr("num_groups")
    layer = nn.GroupNorm(groups, channels, eps=view.attr("epsilon", 1e-5), device="meta")
    if view.shape(1)[0] == channels:
        return fill(view, layer, weight=1, bias=2)
    for index, name in ((1, "weight"), (2, "bias")):
        setattr(layer, name, view.parameter(index, "groups", partial(torch.repeat_interleave, repeats=channels // groups)))
    return Plan(layer)


@rule("LayerNormalization")
def layer_norm(view: View) -> Plan:
    """LayerNorm over the last axes."""
    if len(view.node.outputs) > 1:
        raise RefusedError("the mean and deviation as outputs")
    axis = view.attr("axis", -1) % view.rank()
    sizes = view.shape()[axis:]
    if view.loose(1, 2) or view.shape(1) != sizes or (view.has(2) and view.shape(2) != sizes):
        args = (0, 1, 2) if view.has(2) else (0, 1)
        return Plan(partial(normalize_layer, axis=axis, epsilon=view.attr("epsilon", 1e-5)), args)
    layer = nn.LayerNorm(sizes, eps=view.attr("epsilon", 1e-5), bias=view.has(2), device="meta")
    return fill(view, layer, weight=1, bias=2)


def normalize_layer(x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int, epsilon: float) -> Tensor:
    """LayerNormalization with a scale that broadcasts."""
    normal = F.layer_norm(x, x.shape[axis:], eps=epsilon) * scale
    return normal if bias is None else normal + bias


@rule("Gemm")
def gemm(view: View) -> Plan:
    """Linear; a scale (alpha, beta) goes into its parameters."""
    alpha, beta, turned = view.attr("alpha", 1.0), view.attr("beta", 1.0), view.attr("transB", 0)
    inner, out = view.shape(1)[::-1] if turned else view.shape(1)
    plain = view.attr("transA", 0) == 0 and not view.loose(1, 2)
    if not plain or (view.has(2) and view.shape(2) not in ((out,), (1, out), (), (1,))):
        args = (0, 1, 2) if view.has(2) else (0, 1)
        turn_a = bool(view.attr("transA", 0))
        return Plan(partial(multiply_add, alpha=alpha, beta=beta, turn_a=turn_a, turn_b=bool(turned)), args)
    layer = nn.Linear(inner, out, bias=view.has(2), device="meta")
    layer.weight = view.parameter(1, f"linear{turned}*{alpha}", lambda w: (w if turned else w.T) * alpha)
    if view.has(2):
        layer.bias = view.parameter(2, f"bias{out}*{beta}", lambda b: b.reshape(-1).expand(out) * beta)
    return Plan(layer, weights={"weight": 1, "bias": 2} if view.has(2) else {"weight": 1})


def multiply_add(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha: float, beta: float, turn_a: bool, turn_b: bool
) -> Tensor:
    """Gemm in full."""
    product = torch.matmul(a.T if turn_a else a, b.T if turn_b else b)
    product = product if alpha == 1 else product * alpha
    return product if c is None else product + (c if beta == 1 else c * beta)


@rule("MatMul")
def matmul(view: View) -> Plan:
    """Linear where the right side is a constant matrix; the importer takes an Add that follows in as the bias."""
    if view.rank(1) != 2 or view.rank(0) < 2 or view.loose(1) or view.constant(0) is not None:
        return Plan(torch.matmul, (0, 1))
    inner, out = view.shape(1)
    layer = nn.Linear(inner, out, bias=False, device="meta")
    layer.weight = view.parameter(1, "linear0*1.0", lambda w: w.T)
    return Plan(layer, weights={"weight": 1})


@rule("Gather")
def gather(view: View) -> Plan:
    """Embedding where rows of a constant matrix are picked while the model runs."""
    axis = view.attr("axis", 0) % max(1, view.rank())
    table = view.constant(0)
    chosen = view.constant(1)
    rows_of_a_matrix = table is not None and table.dim() == 2 and table.is_floating_point() and axis == 0
    if rows_of_a_matrix and chosen is None and not view.loose(0):
        layer = nn.Embedding(view.shape()[0], view.shape()[1], device="meta")
        layer.weight = view.parameter(0)
        return Plan(layer, (1,), weights={"weight": 0})
    if chosen is not None and chosen.dim() == 0:
        return Plan(partial(torch.select, dim=axis, index=int(chosen)))
    return Plan(partial(pick, axis=axis), (0, 1))


def pick(data: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    """ONNX's Gather: indices of any shape, counted from the end where negative."""
    size = data.shape[axis]
    rows = torch.where(indices < 0, indices + size, indices).reshape(-1)
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return data.index_select(axis, rows).reshape(shape)
