"""Conversion between frozen dataclasses and wire messages, driven by the fields both declare.

A field travels under its own name, with the wire suffix of its quantity where the message has one (``memory`` is
``memory_bytes``); the few that differ are in ``_RENAMED``. ``None`` is an absent field, and a field the message leaves unset
takes the domain's default. What arrives is built through ``domain.schema.decode``, so that it meets the same checks as YAML.
Which message belongs to which resource is left to ``wire``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from edge_compress.domain import artifact, fleet, job, overview, plan, resource, rollout
from edge_compress.domain.quantity import Quantity
from edge_compress.domain.schema import FieldFacts, decode, encode, fields_of, join
from edge_compress.errors import InvalidSpec

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_RENAMED: dict[tuple[type, str], str] = {
    (artifact.Artifact, "bytes"): "size_bytes",
    (artifact.Artifact, "expected"): "expected_json",
    (artifact.GoldenVectors, "bytes"): "size_bytes",
    (plan.Prediction, "bytes"): "size_bytes",
    (resource.Condition, "last_transition"): "last_transition_seconds",
    (resource.ObjectMeta, "created_at"): "created_at_seconds",
    (resource.ObjectMeta, "updated_at"): "updated_at_seconds",
    (resource.PlannedCandidate, "bytes"): "size_bytes",
    (rollout.RolloutStatus, "share"): "share_ratio",
    (overview.RolloutOverview, "share"): "share_ratio",
    (overview.HistoryPoint, "at"): "at_seconds",
}
_KEPT_HOME = {
    (artifact.Artifact, "name"),  # travels as metadata.name
    (rollout.RolloutStatus, "good_since"),  # the server's own bookkeeping
    (rollout.RolloutStatus, "exposed"),
    (fleet.DeviceStatus, "wrong_here"),
    (job.JobSpec, "corrections"),  # as above
}
_LARGEST_WHOLE = 2**53
"""Struct carries numbers as doubles: whole numbers beyond this would change on the way"""


def to_message(value: Any, message_class: type[M]) -> M:
    """A message of ``message_class`` with the fields of a dataclass. Raises InvalidSpec for what the wire cannot carry."""
    message = message_class()
    fill(message, value, "")
    return message


def from_message(cls: type[T], message: Message, at: str = "") -> T:
    """The dataclass in a message, through the checks of ``decode``. Raises InvalidSpec naming the field under ``at``."""
    return decode(cls, plain_of(cls, message), at)


@functools.cache
def _pairs(cls: Any, descriptor: Descriptor) -> tuple[tuple[FieldFacts, FieldDescriptor], ...]:
    """Each field of ``cls`` with the field of the message that carries it."""
    pairs = []
    for item in fields_of(cls):
        if (cls, item.name) not in _KEPT_HOME:
            pairs.append((item, _wire_field(cls, item, descriptor)))
    return tuple(pairs)


def _wire_field(cls: type, item: FieldFacts, descriptor: Descriptor) -> FieldDescriptor:
    quantity: Quantity | None = item.meta.get("quantity")
    names = [_RENAMED.get((cls, item.name), ""), f"{item.name}_{quantity.wire}" if quantity else "", item.name]
    for name in names:
        if name in descriptor.fields_by_name:
            return descriptor.fields_by_name[name]
    raise TypeError(f"{descriptor.full_name} has no field for {cls.__name__}.{item.name}")


def fill(message: Any, value: Any, at: str) -> None:
    """Set the fields of ``message`` from a dataclass. Raises InvalidSpec naming the field under ``at`` for what cannot travel."""
    for item, field in _pairs(value.__class__, message.DESCRIPTOR):
        current = getattr(value, item.name)
        if current is None:
            continue
        try:
            _set(message, field, current, join(at, item.name))
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidSpec.at(join(at, item.name), current, f"a value that fits the wire ({error})") from error


def _set(message: Any, field: FieldDescriptor, value: Any, at: str) -> None:
    name = field.name
    if _is_struct(field):
        _check_numbers(value, at)
        getattr(message, name).update(value)
    elif _is_map(field):
        getattr(message, name).update(value)
    elif field.is_repeated and field.message_type:
        for index, item in enumerate(value):
            fill(getattr(message, name).add(), item, f"{at}[{index}]")
    elif field.is_repeated:
        getattr(message, name).extend(value)
    elif field.message_type:
        getattr(message, name).SetInParent()
        fill(getattr(message, name), value, at)
    elif field.enum_type:
        setattr(message, name, enum_number(field.enum_type, value))
    else:
        setattr(message, name, value if isinstance(value, (str, int, float)) else json.dumps(encode(value), sort_keys=True))


def plain_of(cls: type, message: Any, *, declared: bool = False) -> dict[str, Any]:
    """What ``decode(cls, …)`` takes. In ``declared`` resources an empty text that is required counts as left out."""
    plain: dict[str, Any] = {}
    for item, field in _pairs(cls, message.DESCRIPTOR):
        value = getattr(message, field.name)
        unset = not message.HasField(field.name) if field.has_presence else not value
        required = item.required and not field.has_presence and not (declared and isinstance(value, str))
        if not unset or required:
            plain[item.name] = _plain_value(item, field, value, declared)
    return plain


def _plain_value(item: FieldFacts, field: FieldDescriptor, value: Any, declared: bool) -> Any:
    if _is_struct(field):
        return _whole(_struct(value))
    if _is_map(field):
        return dict(value)
    if field.message_type:
        inner = _inner_type(item)
        return (
            [plain_of(inner, part, declared=declared) for part in value]
            if field.is_repeated
            else plain_of(inner, value, declared=declared)
        )
    if field.enum_type:
        return enum_text(field.enum_type, value).lower()
    if field.name.endswith("_json") and not item.name.endswith("_json"):
        return _json(value, item.name)
    quantity: Quantity | None = item.meta.get("quantity")
    if quantity is not None:
        return [_in_base_units(part, quantity) for part in value] if field.is_repeated else _in_base_units(value, quantity)
    return list(value) if field.is_repeated else value


def _inner_type(item: FieldFacts) -> Any:
    """The dataclass in ``X``, ``X | None`` or ``tuple[X, ...]``."""
    arguments = getattr(item.type, "__args__", ())
    return next((part for part in arguments if part not in (Ellipsis, type(None))), item.type)


def _in_base_units(value: float, quantity: Quantity) -> str:
    """``value`` as text that the quantity reads back exactly."""
    return f"{value!r}{next(unit for unit, factor in quantity.units if factor == 1)}"


def _json(text: str, at: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidSpec.at(at, text, "JSON") from error


def _struct(value: Any) -> Any:
    """Plain Python of a google.protobuf Struct, ListValue or Value."""
    name = value.DESCRIPTOR.name
    if name == "Struct":
        return {key: _struct(part) for key, part in value.fields.items()}
    if name == "ListValue":
        return [_struct(part) for part in value.values]
    kind = value.WhichOneof("kind")
    if kind in (None, "null_value"):
        return None
    inner = getattr(value, kind)
    return _struct(inner) if kind in ("struct_value", "list_value") else inner


def _whole(value: Any) -> Any:
    """Whole numbers as int, as they were before the wire made them doubles."""
    if isinstance(value, dict):
        return {key: _whole(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_whole(part) for part in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE:
        return int(value)
    return value


def _check_numbers(value: Any, at: str) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_numbers(part, join(at, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            _check_numbers(part, f"{at}[{index}]")
    elif isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        raise InvalidSpec.at(at, value, f"a whole number of at most {_LARGEST_WHOLE} in magnitude")


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _is_struct(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.full_name == "google.protobuf.Struct")


def _enum_prefix(descriptor: EnumDescriptor) -> str:
    return descriptor.values[0].name.removesuffix("UNSPECIFIED")


def enum_number(descriptor: EnumDescriptor, text: str) -> int:
    """The number of an enum value by its name without the enum's prefix, in any case. Raises KeyError."""
    return int(descriptor.values_by_name[_enum_prefix(descriptor) + text.upper()].number)


def enum_text(descriptor: EnumDescriptor, number: int) -> str:
    """The name of an enum value without the enum's prefix; UNSPECIFIED for a number this build does not know."""
    known = descriptor.values_by_number.get(number)
    return known.name.removeprefix(_enum_prefix(descriptor)) if known else "UNSPECIFIED"
