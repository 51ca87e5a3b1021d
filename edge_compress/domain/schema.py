"""One reading of frozen dataclasses: plain mappings in (``decode``), plain mappings out (``encode``), and their JSON Schema.

A field's metadata (made by ``spec_field``) carries its meaning, unit, bounds and choices, so that validation, the published
schema, ``plugins list`` and the documentation all come from one declaration. Leaves to ``spec`` what the fields are.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from edge_compress.domain.quantity import Quantity
from edge_compress.errors import InvalidSpec

T = TypeVar("T")


def spec_field(
    doc: str,
    *,
    default: Any = dataclasses.MISSING,
    quantity: Quantity | None = None,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    pattern: str = "",
    one_or_many: bool = False,
    free: bool = False,
    dial: str = "",
    artifact: bool = False,
) -> Any:
    """Declare a field. ``doc`` says what it means; ``unit`` names the unit where ``quantity`` does not.

    ``choices`` are the only values accepted; ``one_or_many`` lets a list field be written as one value; ``free`` takes any
    mapping as it is. ``dial``: the number trades quality for cost, and both rise (``up``) or fall (``down``) with it, so
    that a search may set it between what was proposed. ``artifact``: the text is the sha256 of an earlier artifact, whose file
    the host lends to the step, or empty. A field without ``default`` must be given.
    """
    meta = {
        "doc": doc,
        "quantity": quantity,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": tuple(choices),
        "pattern": pattern,
        "one_or_many": one_or_many,
        "free": free,
        "dial": dial,
        "artifact": artifact,
    }
    if isinstance(default, (dict, list)):
        raise TypeError("a default must be immutable")
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True)
class FieldFacts:
    """What ``fields_of`` tells of one field: enough to show, check and document it."""

    name: str
    type: Any
    doc: str
    unit: str
    default: Any
    required: bool
    meta: Mapping[str, Any]


def fields_of(cls: Any) -> tuple[FieldFacts, ...]:
    """The fields of a dataclass in order, with their types resolved."""
    return _read_fields(cls)


@functools.cache
def _read_fields(cls: Any) -> tuple[FieldFacts, ...]:
    hints = typing.get_type_hints(cls)
    facts = []
    for item in dataclasses.fields(cls):
        has_factory = item.default_factory is not dataclasses.MISSING
        required = item.default is dataclasses.MISSING and not has_factory
        default = None if required else item.default_factory() if callable(item.default_factory) else item.default
        quantity = item.metadata.get("quantity")
        unit = item.metadata.get("unit") or (quantity.name if quantity else "")
        facts.append(
            FieldFacts(item.name, hints[item.name], item.metadata.get("doc", ""), unit, default, required, item.metadata)
        )
    return tuple(facts)


def decode(cls: type[T], value: object, at: str = "") -> T:
    """Build ``cls`` from a plain mapping. ``at`` is the dotted path for errors.

    Raises InvalidSpec: for an unknown field with the nearest known name, a missing one, a wrong type, or a value out of bounds.
    """
    if not isinstance(value, Mapping):
        raise InvalidSpec.at(at or cls.__name__, value, "a mapping of fields")
    known = {item.name: item for item in fields_of(cls)}
    for key in value:
        if key not in known:
            raise unknown_name(join(at, str(key)), str(key), known, "field")
    given: dict[str, Any] = {}
    for name, item in known.items():
        if value.get(name) is None and _takes_none(item.type) and name in value:
            given[name] = None
        elif value.get(name) is not None:
            given[name] = _decode_value(item.type, value[name], join(at, name), item.meta)
        elif item.required:
            raise InvalidSpec.at(join(at, name), None, item.doc or "a value", "it is required")
    return cls(**given)


def decode_field(item: FieldFacts, value: object, at: str) -> Any:
    """One field's value through the checks that ``decode`` makes, called ``at`` in errors. Raises InvalidSpec."""
    return _decode_value(item.type, value, at, item.meta)


def encode(value: Any) -> Any:
    """The plain, JSON-ready form of a dataclass: quantities as people write them, fields left at their default omitted."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for item in fields_of(type(value)):
            current = getattr(value, item.name)
            if item.required or current != item.default:
                plain[item.name] = _encode_value(current, item.meta)
        return plain
    return _encode_value(value, {})


def encode_all(value: Any) -> dict[str, Any]:
    """As ``encode``, with the fields at their default too: everything that was used."""
    return {item.name: _encode_value(getattr(value, item.name), item.meta) for item in fields_of(type(value))}


def json_schema(cls: type) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what ``decode(cls, …)`` accepts."""
    properties = {}
    for item in fields_of(cls):
        schema = _schema_of(item.type, item.meta)
        if item.doc:
            schema = {**schema, "description": item.doc}
        if not item.required and item.default not in (None, ()) and isinstance(item.default, (str, int, float, bool)):
            schema["default"] = _encode_value(item.default, item.meta)
        properties[item.name] = schema
    required = [item.name for item in fields_of(cls) if item.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def unknown_name(field: str, name: str, known: typing.Iterable[str], what: str) -> InvalidSpec:
    """The error for a name nobody knows, with the nearest one that exists."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return InvalidSpec.at(field, name, f"a known {what}", hint)


def join(at: str, name: str) -> str:
    """Extend a dotted path."""
    return f"{at}.{name}" if at else name


def _decode_value(kind: Any, value: object, at: str, meta: Mapping[str, Any]) -> Any:
    kind = _without_none(kind)
    quantity: Quantity | None = meta.get("quantity")
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _decode_list(typing.get_args(kind)[0], value, at, meta)
    if quantity is not None:
        return _bounded(quantity.parse(value, at), at, meta)
    if meta.get("free") or kind is Any:
        return _frozen(value, at)
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        return _decode_mapping(value, at)
    if dataclasses.is_dataclass(kind):
        return decode(kind, value, at)  # type: ignore[arg-type]  # is_dataclass narrows to an instance too
    return _bounded(_decode_scalar(kind, value, at), at, meta)


def _decode_list(kind: Any, value: object, at: str, meta: Mapping[str, Any]) -> tuple[Any, ...]:
    if meta.get("one_or_many") and not isinstance(value, (list, tuple)):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise InvalidSpec.at(at, value, "a list")
    return tuple(_decode_value(kind, item, f"{at}[{index}]", {**meta, "one_or_many": False}) for index, item in enumerate(value))


def _decode_mapping(value: object, at: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidSpec.at(at, value, "a mapping of names to text")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, (str, int, float)) or isinstance(item, bool):
            raise InvalidSpec.at(join(at, str(key)), item, "text")
    return {str(key): str(item) for key, item in value.items()}


def _decode_scalar(kind: Any, value: object, at: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise InvalidSpec.at(at, value, "true or false")
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise InvalidSpec.at(at, value, "a whole number")
    if kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise InvalidSpec.at(at, value, "a number")
    if kind is str:
        if isinstance(value, str):
            return value
        raise InvalidSpec.at(at, value, "text")
    raise TypeError(f"{at}: no decoding for {kind!r}")


def _bounded(value: Any, at: str, meta: Mapping[str, Any]) -> Any:
    quantity: Quantity | None = meta.get("quantity")
    show = quantity.format if quantity else str
    low, high, choices = meta.get("minimum"), meta.get("maximum"), meta.get("choices")
    if low is not None and value < low:
        raise InvalidSpec.at(at, show(value), f"at least {show(low)}")
    if high is not None and value > high:
        raise InvalidSpec.at(at, show(value), f"at most {show(high)}")
    if choices and value not in choices:
        raise unknown_name(at, str(value), choices, "value")
    return value


def _frozen(value: object, at: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _frozen(item, join(at, str(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_frozen(item, f"{at}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise InvalidSpec.at(at, value, "text, a finite number, true, false, a list or a mapping")


def _encode_value(value: Any, meta: Mapping[str, Any]) -> Any:
    quantity: Quantity | None = meta.get("quantity")
    if value is None:
        return None
    if isinstance(value, tuple):
        items = [_encode_value(item, meta) for item in value]
        return items[0] if meta.get("one_or_many") and len(items) == 1 else items
    if quantity is not None:
        return quantity.format(value)
    if dataclasses.is_dataclass(value):
        return encode(value)
    if isinstance(value, Mapping):
        return {key: _encode_value(item, {}) for key, item in value.items()}
    if isinstance(value, list):
        return [_encode_value(item, {}) for item in value]
    return value


def _schema_of(kind: Any, meta: Mapping[str, Any]) -> dict[str, Any]:
    kind = _without_none(kind)
    quantity: Quantity | None = meta.get("quantity")
    if typing.get_origin(kind) is tuple:
        items = _schema_of(typing.get_args(kind)[0], {**meta, "one_or_many": False})
        listed = {"type": "array", "items": items}
        return {"anyOf": [items, listed]} if meta.get("one_or_many") else listed
    if quantity is not None:
        return {"type": ["string", "number"] if quantity.bare else "string", "examples": [quantity.example]}
    if meta.get("free") or kind is Any:
        return {"type": "object"}
    if typing.get_origin(kind) in (dict, Mapping):
        return {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
    if dataclasses.is_dataclass(kind):
        return json_schema(kind)  # type: ignore[arg-type]  # is_dataclass narrows to an instance too
    schema: dict[str, Any] = {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[kind]}
    for key in ("minimum", "maximum"):
        if meta.get(key) is not None:
            schema[key] = meta[key]
    if meta.get("choices"):
        schema["enum"] = list(meta["choices"])
    if meta.get("pattern"):
        schema["pattern"] = meta["pattern"]
    return schema


def _takes_none(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [item for item in typing.get_args(kind) if item is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return kind
