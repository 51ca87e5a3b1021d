"""What the JSON of an exported program says, checked: its inputs, its steps in order, its outputs. Nothing is looked up or run.

Every text that could reach an evaluator is held to a grammar here. Symbolic sizes are the dangerous ones: torch hands such
expressions to sympy, which evaluates them as Python. None is evaluated here: the only ones that are read are those of inputs,
which must be a symbol by itself, and all other sizes follow from running the program. Tree specifications, guards, metadata and
stack traces are not read at all.

Source: torch/_export/serde/schema.py, schema version 8 (torch 2.6 to 2.13).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_compress.errors import InvalidModel
from edge_compress.graph.operands import name_of, names_in, only, whole
from edge_compress.graph.steps import Step, read_steps

SCHEMA = 8
MAX_AXIS = 2**31 - 1
_SYMBOL = re.compile(r"Symbol\('([A-Za-z]\w{0,30})'(?:, [a-z]+=(?:True|False))*\)|([A-Za-z]\w{0,30})", re.ASCII)


@dataclass(frozen=True)
class Input:
    """One input of the model: element type by torch's number, and an axis length or the name of a free one per axis."""

    name: str
    dtype: int
    sizes: tuple[int | str, ...]


@dataclass(frozen=True)
class Output:
    """One output of the model, and the name of its value among the steps."""

    name: str
    value: str


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
    outputs: tuple[Output, ...]
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
    stored, names = _given(signature["input_specs"])
    inputs = tuple(_input(name, graph["tensor_values"][name]) for name in names)
    if not inputs:
        raise InvalidModel("read a program without inputs, expected at least one tensor")
    steps, moved = read_steps(graph["nodes"])
    named = [_output(item) for item in signature["output_specs"]]
    outputs = tuple(Output(name, moved.get(name, name)) for name in named)
    _check_order(inputs, stored, steps, outputs)
    return Program(inputs, stored, steps, outputs, _free(inputs, graph["tensor_values"], plain["range_constraints"]))


def _given(specs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Stored tensors by their name in the program, and the names of real inputs in order."""
    stored: dict[str, str] = {}
    inputs: list[str] = []
    for spec in specs:
        kind, body = only(spec)
        match kind:
            case "parameter" | "buffer" | "tensor_constant":
                stored[name_of(body["arg"]["name"])] = str(body[f"{kind}_name"])
            case "user_input":
                form, value = only(body["arg"])
                if form == "as_tensor":
                    inputs.append(name_of(value["name"]))
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
    kind, value = only(plain)
    if kind == "as_int":
        if type(value) is not int or not 0 <= value <= MAX_AXIS:
            raise InvalidModel(f"input {name!r}: read an axis of {value!r}, expected 0 to {MAX_AXIS}")
        return value
    return _symbol(name, value["expr_str"])


def _symbol(name: str, text: Any) -> str:
    found = _SYMBOL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidModel(
            f"input {name!r}: read the size {str(text)[:60]!r}, expected a number or one symbol; expressions are not read"
        )
    return str(found[1] or found[2])


def _output(spec: Mapping[str, Any]) -> str:
    kind, body = only(spec)
    if kind != "user_output":
        raise InvalidModel(
            f"read an output of the kind {kind!r}: the model changes its own state; call eval() before exporting it"
        )
    form, value = only(body["arg"])
    if form != "as_tensor":
        raise InvalidModel(f"read an output of the form {form}, expected tensors")
    return name_of(value["name"])


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
    return default if value is None else max(0, min(MAX_AXIS, whole(value)))


def _check_order(inputs: Sequence[Input], stored: Mapping[str, str], steps: Sequence[Step], outputs: Sequence[Output]) -> None:
    """Every value is made before it is read, and once."""
    made = {item.name for item in inputs} | set(stored)
    for step in steps:
        for name in (name for _, value in step.arguments for name in names_in(value)):
            if name not in made:
                raise InvalidModel(f"{step.target}: reads {name!r}, which nothing made before")
        made.update(name for result in step.results for name in ([result] if isinstance(result, str) else result or ()))
    for item in outputs:
        if item.value not in made:
            raise InvalidModel(f"output {item.name!r} is made by no step")
    if not outputs:
        raise InvalidModel("read a program without outputs, expected at least one tensor")
