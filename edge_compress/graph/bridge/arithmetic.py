"""Rules for element-wise arithmetic, comparison, reductions, products and types: plain functions, with constants as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import torch
from onnx import helper
from torch import Tensor

from edge_compress.graph.bridge.rules import Plan, RefusedError, View, rule, whole


def divide(a: Tensor, b: Tensor) -> Tensor:
    """ONNX's Div: whole numbers are cut towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def power(a: Tensor, b: Tensor) -> Tensor:
    """The result has the type of the base."""
    return torch.pow(a, b).to(a.dtype)


def _all(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return partial(_combine, function)


def _combine(function: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor) -> Tensor:
    return reduce(function, inputs)


def mean_of(*inputs: Tensor) -> Tensor:
    """The mean of several tensors."""
    return reduce(torch.add, inputs) / len(inputs)


def choose(condition: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """ONNX's Where."""
    return torch.where(condition, left, right)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": divide,
    "Pow": power,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Erf": torch.erf,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Atan": torch.atan,
    "Max": _all(torch.maximum),
    "Min": _all(torch.minimum),
    "Sum": _all(torch.add),
    "Mean": mean_of,
    "Where": choose,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Not": torch.logical_not,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "IsNaN": torch.isnan,
}


@rule(*_FUNCTIONS)
def elementwise(view: View) -> Plan:
    """All inputs, broadcast."""
    return Plan(_FUNCTIONS[view.node.op], tuple(range(len(view.values))))


@rule("Mod")
def modulo(view: View) -> Plan:
    """Sign of the divisor, or of the dividend with ``fmod``."""
    return Plan(torch.fmod if view.attr("fmod", 0) else torch.remainder, (0, 1))


@rule("Einsum")
def einsum(view: View) -> Plan:
    """torch.einsum takes the same equations."""
    equation = view.attr("equation").replace(" ", "")
    return Plan(partial(torch.einsum, equation), tuple(range(len(view.values))))


@rule("Cast")
def cast(view: View) -> Plan:
    """To a type that torch has."""
    return Plan(partial(to_type, dtype=torch_type(view.attr("to"))))


@rule("CastLike")
def cast_like(view: View) -> Plan:
    """To the type of the second input."""
    return Plan(partial(to_type, dtype=view.value(1).probes[0].dtype))


def to_type(x: Tensor, *, dtype: torch.dtype) -> Tensor:
    """The tensor as another type."""
    return x.to(dtype)


def torch_type(elem_type: int) -> torch.dtype:
    """torch's name of an ONNX type. Raises RefusedError where it has none."""
    name = str(helper.tensor_dtype_to_np_dtype(elem_type).name) if elem_type != 8 else "string"
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise RefusedError(f"the type {name}")
    return found


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "ReduceProd": lambda x, axes, keep: multiply_along(x, axes, keep),
}


@rule(*_REDUCTIONS)
def reduction(view: View) -> Plan:
    """Axes from the attribute or the second input; none means all, or nothing where ``noop_with_empty_axes`` says so."""
    rank = view.rank()
    axes = whole(view.either("axes", 1, "the axes") or [], rank)
    if not axes and view.attr("noop_with_empty_axes", 0):
        return Plan(reduce_nothing)
    return Plan(partial(reduce_along, view.node.op, axes=tuple(axes or range(rank)), keep=bool(view.attr("keepdims", 1))))


def reduce_along(operator: str, x: Tensor, *, axes: Sequence[int], keep: bool) -> Tensor:
    """One of the reductions."""
    result: Tensor = _REDUCTIONS[operator](x, axes, keep) if axes else x
    return result


def reduce_nothing(x: Tensor) -> Tensor:
    """No axes, no change."""
    return x


def multiply_along(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    """The product over several axes."""
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


@rule("ArgMax", "ArgMin")
def arg_extreme(view: View) -> Plan:
    """The first index of the largest or smallest."""
    if view.attr("select_last_index", 0):
        raise RefusedError("select_last_index")
    function = torch.argmax if view.node.op == "ArgMax" else torch.argmin
    return Plan(partial(function, dim=view.attr("axis", 0) % view.rank(), keepdim=bool(view.attr("keepdims", 1))))


@rule("CumSum")
def cumulate(view: View) -> Plan:
    """Running sums, plain."""
    if view.attr("exclusive", 0) or view.attr("reverse", 0):
        raise RefusedError("exclusive or reverse")
    return Plan(partial(torch.cumsum, dim=int(view.need(1, "the axis"))))


@rule("RMSNormalization")
def rms_norm(view: View) -> Plan:
    """By the root of the mean square over the last axes."""
    return Plan(partial(normalize_rms, axis=view.attr("axis", -1) % view.rank(), epsilon=view.attr("epsilon", 1e-5)), (0, 1))


def normalize_rms(x: Tensor, scale: Tensor, *, axis: int, epsilon: float) -> Tensor:
    """RMSNormalization."""
    square = x.square().mean(tuple(range(axis, x.dim())), keepdim=True)
    return x * torch.rsqrt(square + epsilon) * scale
