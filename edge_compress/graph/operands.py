"""The arguments of a program's steps, read from the JSON of torch's schema: numbers, texts, names of values, numbered settings.

What is not in the table here is refused: custom objects, whole graphs and operators as arguments among others.

Source: torch/_export/serde/schema.py, ``Argument``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_compress.errors import InvalidModel

_NAME = re.compile(r"[A-Za-z_][\w.]{0,200}", re.ASCII)
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


def value_of(target: str, plain: Mapping[str, Any]) -> Value:
    """The argument of an operator. Raises InvalidModel for a form not taken; TypeError, KeyError for none of the schema."""
    kind, value = only(plain)
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


def whole(value: Any) -> int:
    """A whole number of 64 bits. Raises TypeError for anything else, true and false included."""
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
    return Ref(name_of(value["name"]))


def _either(one: Callable[[Any], Value]) -> Callable[[Mapping[str, Any]], Value]:
    """A value that is named, or stands there itself."""

    def read(value: Mapping[str, Any]) -> Value:
        kind, inner = only(value)
        return Ref(name_of(inner)) if kind == "as_name" else one(inner)

    return read


def _optional(value: Mapping[str, Any]) -> Ref | None:
    kind, inner = only(value)
    return None if kind == "as_none" else _ref(inner)


def _each(one: Callable[[Any], Value]) -> Callable[[Sequence[Any]], Value]:
    return lambda values: tuple(one(value) for value in values)


def _code(kind: str) -> Callable[[Any], Code]:
    return lambda value: Code(kind, whole(value))


_READERS: Mapping[str, Callable[[Any], Value]] = {
    "as_none": lambda value: None,
    "as_tensor": _ref,
    "as_tensors": _each(_ref),
    "as_optional_tensor": _optional,
    "as_optional_tensors": _each(_optional),
    "as_int": whole,
    "as_ints": _each(whole),
    "as_float": _number,
    "as_floats": _each(_number),
    "as_bool": _flag,
    "as_bools": _each(_flag),
    "as_string": _text,
    "as_sym_int": _either(whole),
    "as_sym_ints": _each(_either(whole)),
    "as_sym_float": _either(_number),
    "as_sym_bool": _either(_flag),
    "as_scalar_type": _code("dtype"),
    "as_layout": _code("layout"),
    "as_memory_format": _code("memory_format"),
    "as_device": lambda value: Code("device"),
}


def names_in(value: Value) -> Iterator[str]:
    """Every name that a value refers to."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, tuple):
        for item in value:
            yield from names_in(item)


def renamed(value: Value, name: Callable[[str], str]) -> Value:
    """The same value with other names."""
    if isinstance(value, Ref):
        return Ref(name(value.name))
    return tuple(renamed(item, name) for item in value) if isinstance(value, tuple) else value


def only(union: Mapping[str, Any]) -> tuple[str, Any]:
    """The one member that a union of the schema has."""
    if len(union) != 1:
        raise TypeError(f"read a union of {len(union)} members, expected one")
    return next(iter(union.items()))


def name_of(value: Any) -> str:
    """A name of a value in a program. Raises InvalidModel for a text that could be more than a name."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidModel(f"read the name {str(value)[:60]!r}, expected letters, digits and '_'")
    return value
