"""What the JSON of an exported program says, checked: its inputs, its steps in order, its outputs. Nothing is looked up or run.

Every text that could reach an evaluator is held to a grammar here. Symbolic sizes are the dangerous ones: torch hands such
expressions to sympy, which evaluates them as Python. None is evaluated here: the only ones that are read are those of inputs,
which must be a symbol by itself, and all other sizes follow from running the program. Tree specifications, guards, metadata and
stack traces are not read at all.

Source: torch/_export/serde/schema.py, schema version 8 (torch 2.6 to 2.13).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_compress.errors import InvalidModel

SCHEMA = 8
MAX_STEPS = 100_000
MAX_AXIS = 2**31 - 1
_SYMBOL = re.compile(r"^(?:Symbol\('([A-Za-z]\w{0,30})'(?:, [a-z]+=(?:True|False))*\)|([A-Za-z]\w{0,30}))$")
_NAME = re.compile(r"^[A-Za-z_][\w.]{0,200}$", re.ASCII)
_TARGET = re.compile(
    r"^(torch\.ops\.aten\.[A-Za-z_]\w*\.[A-Za-z_]\w*|_operator\.[a-z_]+|math\.[a-z]+|torch\.sym_[a-z]+)$", re.ASCII
)
_SPECIAL_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


@dataclass(frozen=True)
class Ref:
    """A value that the program made or was given, by name."""

    name: str


@dataclass(frozen=True)
class Code:
    """One of torch's numbered settings: ``kind`` is dtype, layout, memory_format or device (always the processor)."""

    kind: str
    number: int = 0


Value = Any
"""None, a number, a bool, a text, a Ref, a Code, or a tuple of these"""


@dataclass(frozen=True)
class Input:
    """One input of the model: element type by torch's number, and an axis length or the name of a free one per axis."""

    name: str
    dtype: int
    sizes: tuple[int | str, ...]


@dataclass(frozen=True)
class Step:
    """One operator: where it is found, its arguments by name, and the names of its results (a tuple where it gives a list)."""

    target: str
    arguments: tuple[tuple[str, Value], ...]
    results: tuple[str | tuple[str, ...] | None, ...]


@dataclass(frozen=True)
class Range:
    """Between which lengths a free axis may lie; ``hint`` is the length it had when the model was exported, or 0."""

    least: int
    most: int
    hint: int = 0


@dataclass(frozen=True)
class Program:
    """An exported program."""

    inputs: tuple[Input, ...]
    stored: Mapping[str, str]
    """name in the program -> name of the tensor in the archive"""
    steps: tuple[Step, ...]
    outputs: tuple[Ref, ...]
    free: Mapping[str, Range]
    """free axes by symbol"""


def read_program(plain: Mapping[str, Any]) -> Program:
    """The program behind the JSON. Raises InvalidModel with what cannot be taken and why."""
    try:
        return _read(plain)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise InvalidModel(
            f"read a program of another form than torch.export writes ({type(error).__name__}: {error})"
        ) from error


def _read(plain: Mapping[str, Any]) -> Program:
    version = plain["schema_version"]["major"]
    if version != SCHEMA:
        raise InvalidModel(f"read a program of schema {version!r}, expected {SCHEMA}; export it with torch 2.9 or newer")
    graph, signature = plain["graph_module"]["graph"], plain["graph_module"]["signature"]
    if len(graph["nodes"]) > MAX_STEPS:
        raise InvalidModel(f"read {len(graph['nodes'])} steps, expected at most {MAX_STEPS}")
    stored, names = _given(signature["input_specs"])
    inputs = tuple(_input(name, graph["tensor_values"][name]) for name in names)
    if not inputs:
        raise InvalidModel("read a program without inputs, expected at least one tensor")
    steps = tuple(_step(node) for node in graph["nodes"])
    outputs = tuple(_output(item) for item in signature["output_specs"])
    _check_order(inputs, stored, steps, outputs)
    return Program(inputs, stored, steps, outputs, _free(inputs, graph["tensor_values"], plain["range_constraints"]))


def _given(specs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Stored tensors by their name in the program, and the names of real inputs in order."""
    stored: dict[str, str] = {}
    inputs: list[str] = []
    for spec in specs:
        kind, body = _only(spec)
        match kind:
            case "parameter" | "buffer" | "tensor_constant":
                stored[_name(body["arg"]["name"])] = str(body[f"{kind}_name"])
            case "user_input":
                form, value = _only(body["arg"])
                if form == "as_tensor":
                    inputs.append(_name(value["name"]))
                elif form not in ("as_none", "as_int", "as_float", "as_bool", "as_string"):  # those are settled by the export
                    raise InvalidModel(f"read an input of the form {form}, expected tensors; export the model with tensors alone")
            case "constant_input":
                continue
            case _:
                raise InvalidModel(f"read an input of the kind {kind!r}, expected tensors; custom objects are never opened")
    return stored, inputs


def _input(name: str, meta: Mapping[str, Any]) -> Input:
    return Input(name, int(meta["dtype"]), tuple(_size(name, item) for item in meta["sizes"]))


def _size(name: str, plain: Mapping[str, Any]) -> int | str:
    kind, value = _only(plain)
    if kind == "as_int":
        if type(value) is not int or not 0 <= value <= MAX_AXIS:
            raise InvalidModel(f"input {name!r}: read an axis of {value!r}, expected 0 to {MAX_AXIS}")
        return value
    return _symbol(name, value["expr_str"])


def _symbol(name: str, text: Any) -> str:
    found = _SYMBOL.match(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidModel(
            f"input {name!r}: read the size {str(text)[:60]!r}, expected a number or one symbol; expressions are not read"
        )
    return str(found[1] or found[2])


def _step(node: Mapping[str, Any]) -> Step:
    target = node["target"]
    if not isinstance(target, str) or not _TARGET.match(target):
        raise InvalidModel(f"read the operator {str(target)[:80]!r}, expected one of torch.ops.aten without control flow")
    arguments = tuple((str(item["name"]), _value(target, item["arg"])) for item in node["inputs"])
    return Step(target, arguments, tuple(_result(target, item) for item in node["outputs"]))


def _result(target: str, plain: Mapping[str, Any]) -> str | tuple[str, ...] | None:
    kind, value = _only(plain)
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return _name(value["name"])
        case "as_tensors":
            return tuple(_name(item["name"]) for item in value)
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return _name(value["as_name"])
    raise InvalidModel(f"{target}: read a result of the form {kind}, expected tensors and numbers")


def _output(spec: Mapping[str, Any]) -> Ref:
    kind, body = _only(spec)
    if kind != "user_output":
        raise InvalidModel(
            f"read an output of the kind {kind!r}: the model changes its own state; call eval() before exporting it"
        )
    form, value = _only(body["arg"])
    if form != "as_tensor":
        raise InvalidModel(f"read an output of the form {form}, expected tensors")
    return Ref(_name(value["name"]))


def _value(target: str, plain: Mapping[str, Any]) -> Value:
    kind, value = _only(plain)
    reader = _READERS.get(kind)
    if reader is None:
        raise InvalidModel(f"{target}: read an argument of the form {kind}, expected tensors, numbers and settings")
    return reader(value)


def _number(value: Any) -> float:
    if isinstance(value, str):
        return _SPECIAL_FLOATS[value]
    if type(value) not in (int, float):
        raise TypeError(f"read {value!r}, expected a number")
    return float(value)


def _integer(value: Any) -> int:
    if type(value) is not int or abs(value) > 2**63:
        raise TypeError(f"read {str(value)[:40]}, expected a whole number of 64 bits")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"read {str(value)[:40]}, expected true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise TypeError("read a text that is none or is too long")
    return value


def _ref(value: Mapping[str, Any]) -> Ref:
    return Ref(_name(value["name"]))


def _either(one: Callable[[Any], Value]) -> Callable[[Mapping[str, Any]], Value]:
    """A value that is named, or stands there itself."""

    def read(value: Mapping[str, Any]) -> Value:
        kind, inner = _only(value)
        return Ref(_name(inner)) if kind == "as_name" else one(inner)

    return read


def _optional(value: Mapping[str, Any]) -> Ref | None:
    kind, inner = _only(value)
    return None if kind == "as_none" else _ref(inner)


def _each(one: Callable[[Any], Value]) -> Callable[[Sequence[Any]], Value]:
    return lambda values: tuple(one(value) for value in values)


def _code(kind: str) -> Callable[[Any], Code]:
    return lambda value: Code(kind, _integer(value))


_READERS: Mapping[str, Callable[[Any], Value]] = {
    "as_none": lambda value: None,
    "as_tensor": _ref,
    "as_tensors": _each(_ref),
    "as_optional_tensor": _optional,
    "as_optional_tensors": _each(_optional),
    "as_int": _integer,
    "as_ints": _each(_integer),
    "as_float": _number,
    "as_floats": _each(_number),
    "as_bool": _flag,
    "as_bools": _each(_flag),
    "as_string": _text,
    "as_sym_int": _either(_integer),
    "as_sym_ints": _each(_either(_integer)),
    "as_sym_float": _either(_number),
    "as_sym_bool": _either(_flag),
    "as_scalar_type": _code("dtype"),
    "as_layout": _code("layout"),
    "as_memory_format": _code("memory_format"),
    "as_device": lambda value: Code("device"),
}


def _free(inputs: Sequence[Input], metas: Mapping[str, Any], constraints: Mapping[str, Mapping[str, Any]]) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for item in inputs:
        for size, plain in zip(item.sizes, metas[item.name]["sizes"], strict=True):
            if isinstance(size, str) and size not in found:
                limits = constraints.get(size) or {}
                hint = ((plain["as_expr"].get("hint")) or {}).get("as_int") or 0
                found[size] = Range(_bound(limits.get("min_val"), 0), _bound(limits.get("max_val"), MAX_AXIS), _bound(hint, 0))
    return found


def _bound(value: Any, default: int) -> int:
    return default if value is None else max(0, min(MAX_AXIS, _integer(value)))


def _check_order(inputs: Sequence[Input], stored: Mapping[str, str], steps: Sequence[Step], outputs: Sequence[Ref]) -> None:
    """Every value is made before it is read, and once."""
    made = {item.name for item in inputs} | set(stored)
    for step in steps:
        for name in (name for _, value in step.arguments for name in _names(value)):
            if name not in made:
                raise InvalidModel(f"{step.target}: reads {name!r}, which nothing made before")
        made.update(name for result in step.results for name in ([result] if isinstance(result, str) else result or ()))
    for item in outputs:
        if item.name not in made:
            raise InvalidModel(f"output {item.name!r} is made by no step")
    if not outputs:
        raise InvalidModel("read a program without outputs, expected at least one tensor")


def _names(value: Value) -> Iterator[str]:
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, tuple):
        for item in value:
            yield from _names(item)


def _only(union: Mapping[str, Any]) -> tuple[str, Any]:
    """The one member that a union of the schema has."""
    if len(union) != 1:
        raise TypeError(f"read a union of {len(union)} members, expected one")
    return next(iter(union.items()))


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        raise InvalidModel(f"read the name {str(value)[:60]!r}, expected letters, digits and '_'")
    return value
