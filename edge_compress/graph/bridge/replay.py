"""A checked program (``graph.program``) as a torch module that does its steps one after the other.

No code is made of what the file says: a step is a call of an operator that torch itself has, looked up under ``torch.ops.aten``
or in the short table here, on values that the checked program holds. Operators that touch files or take free text are refused.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_compress.errors import InvalidModel, Unsupported
from edge_compress.graph.archive import Stored
from edge_compress.graph.operands import Code, Ref, Value
from edge_compress.graph.program import Program
from edge_compress.graph.steps import Step

TYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""element types by torch's number in a program"""
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}
_OF_SIZES: Mapping[str, Callable[..., Any]] = {
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.trunc": math.trunc,
    "torch.sym_float": torch.sym_float,
    "torch.sym_int": torch.sym_int,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
    "torch.sym_not": torch.sym_not,
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
    },
}
"""arithmetic on sizes"""
_CHECKS = frozenset(
    ("_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size")
)
"""operators that assert and give nothing"""
_TEXTS = frozenset({"approximate", "equation", "indexing", "mode", "padding", "reduction", "rounding_mode"})
"""arguments that may be text: words that choose between kinds of arithmetic"""
_NEVER = frozenset({"from_file", "save", "load", "set_", "set_data", "resize_", "resize_as_", "record_stream"})
"""operators that read or write files, or give a tensor memory that is not its own"""
_PRIVATE = frozenset(
    {
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "_log_softmax",
        "_native_batch_norm_legit_no_training",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_softmax",
        "_to_copy",
        "_unsafe_index",
        "_unsafe_view",
        "_weight_norm",
        "_weight_norm_interface",
    }
)
"""operators with a leading underscore that exported programs hold; the others may leave out checks of their arguments
(``_reshape_alias`` looks anywhere in memory)"""
_TRAINING = ("train", "training")
_UNCHECKED = ("unsafe", "check_bounds")
"""arguments by which operators are told to check less"""


class Replay(nn.Module):
    """Takes the inputs in order; gives a tuple of the outputs."""

    def __init__(self, program: Program, tensors: Mapping[str, Stored]) -> None:
        """Raises InvalidModel, Unsupported for what cannot be run."""
        super().__init__()
        self._inputs = tuple(item.name for item in program.inputs)
        self._outputs = tuple(item.value for item in program.outputs)
        self._steps = [(step, _operator_of(step)) for step in program.steps if not _is_check(step)]
        self.names: dict[str, str] = {}
        """name of a buffer here -> name that its tensor has in the archive"""
        self._buffer_of: dict[str, str] = {}
        for index, (name, kept) in enumerate(program.stored.items()):
            if kept not in tensors:
                raise InvalidModel(f"the program reads tensor {kept!r}, which the archive does not hold")
            self.register_buffer(f"w{index}", tensor_of(tensors[kept]))
            self.names[f"w{index}"], self._buffer_of[name] = kept, f"w{index}"

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        values |= {name: getattr(self, buffer) for name, buffer in self._buffer_of.items()}
        for step, function in self._steps:
            made = (
                function(**{name: _held(value, values) for name, value in step.arguments})
                if _named(step)
                else function(*(_held(value, values) for _, value in step.arguments))
            )
            _bind(step, made, values)
        return tuple(values[name] for name in self._outputs)


def tensor_of(stored: Stored) -> Tensor:
    """A tensor of its own memory with the values of a stored one."""
    kind = TYPES[stored.dtype]
    if 0 in stored.shape:
        return torch.empty(stored.shape, dtype=kind)
    whole = len(stored.data) // kind.itemsize * kind.itemsize
    flat = torch.frombuffer(bytearray(stored.data[:whole]), dtype=kind)
    return flat.as_strided(stored.shape, stored.strides, stored.offset).clone(memory_format=torch.contiguous_format)


def _is_check(step: Step) -> bool:
    return step.target.startswith("torch.ops.aten.") and step.target.split(".")[3] in _CHECKS


def _named(step: Step) -> bool:
    return step.target.startswith("torch.ops.aten.")


def _operator_of(step: Step) -> Callable[..., Any]:
    if not _named(step):
        if step.target not in _OF_SIZES:
            raise Unsupported(f"{step.target}: no such arithmetic on sizes is taken")
        return _OF_SIZES[step.target]
    _, _, _, name, overload = step.target.split(".")
    found = getattr(getattr(torch.ops.aten, name, None), overload, None)
    allowed = name not in _NEVER and (not name.startswith("_") or name in _PRIVATE)
    if not isinstance(found, torch._ops.OpOverload) or not allowed:
        raise Unsupported(f"{step.target}: is no operator that is taken")
    _check_arguments(step)
    return found


def _check_arguments(step: Step) -> None:
    for name, value in step.arguments:
        if isinstance(value, str) and name not in _TEXTS:
            raise Unsupported(f"{step.target}: read a text as {name!r}, expected none there")
        if name in _UNCHECKED:
            raise Unsupported(f"{step.target}: read {name!r}, expected an operator that checks its arguments")
        if name in _TRAINING and value is True:
            raise Unsupported(f"{step.target}: the model was exported while training; call eval() before torch.export.export")


def _held(value: Value, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, tuple):
        return [_held(item, values) for item in value]
    return _setting(value) if isinstance(value, Code) else value


def _setting(code: Code) -> Any:
    match code.kind:
        case "dtype" if code.number in TYPES:
            return TYPES[code.number]
        case "memory_format" if code.number in _FORMATS:
            return _FORMATS[code.number]
        case "layout" if code.number == 7:
            return torch.strided
        case "device":
            return torch.device("cpu")
    raise Unsupported(f"read the {code.kind} number {code.number}, which is not taken")


def _bind(step: Step, made: Any, values: dict[str, Any]) -> None:
    given = [made] if len(step.results) == 1 else made
    for result, value in zip(step.results, given or (), strict=False):
        if isinstance(result, tuple):
            values |= dict(zip(result, value, strict=False))
        elif result is not None:
            values[result] = value
