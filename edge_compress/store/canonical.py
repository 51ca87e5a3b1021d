"""The one JSON text of a value, so that equal values are equal texts: what the database keeps and compares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge_compress.errors import InvalidSpec


def to_text(value: Any, field: str) -> str:
    """JSON with sorted keys and no spaces, in ASCII. ``1``, ``1.0`` and ``true`` stay three different values.

    Raises InvalidSpec, naming ``field``, for what JSON cannot carry: NaN, infinities, bytes, sets, objects, endless nesting.
    """
    try:
        return _ENCODER.encode(value)
    except RecursionError as error:  # the value's own repr would fail the same way
        raise InvalidSpec.at(field, type(value).__name__, "a value that is nested less deeply") from error
    except (TypeError, ValueError) as error:
        raise InvalidSpec.at(field, value, f"a JSON-ready value ({error})") from error


def from_text(text: str) -> Any:
    """What ``to_text`` wrote, as fresh dicts and lists."""
    return json.loads(text)


def _plain(value: object) -> Any:
    """Read-only mappings are mappings to us, but not to ``json``."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
