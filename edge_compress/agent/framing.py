"""The messages between the agent and its model process: a length, a JSON header, and arrays as raw bytes. Standard library only.

    4 bytes length of the header, 4 bytes length of the body (both big-endian), header, body

The header carries the fields of the message and, under ``arrays``, the name, dtype and shape of each array; the body is
the arrays' bytes one after another. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

PREFIX = struct.Struct("!II")
_MAX_HEADER_BYTES = 1 << 20
_MAX_BODY_BYTES = 1 << 30


@dataclass(frozen=True)
class Array:
    """One array: ``dtype`` as numpy writes it (``<f4``), ``data`` its bytes in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True)
class Frame:
    """One message."""

    fields: Mapping[str, Any]
    arrays: tuple[Array, ...] = ()


def pack(fields: Mapping[str, Any], arrays: Sequence[Array] = ()) -> bytes:
    """The bytes of one message."""
    listed = [{"name": item.name, "dtype": item.dtype, "shape": item.shape, "bytes": len(item.data)} for item in arrays]
    header = json.dumps({**fields, "arrays": listed} if listed else dict(fields)).encode()
    body = b"".join(item.data for item in arrays)
    return b"".join((PREFIX.pack(len(header), len(body)), header, body))


def lengths(prefix: bytes) -> tuple[int, int]:
    """Bytes of header and body to read after ``prefix``. Raises ValueError for absurd ones."""
    header, body = PREFIX.unpack(prefix)
    if header > _MAX_HEADER_BYTES or body > _MAX_BODY_BYTES:
        raise ValueError(f"a message of {header} + {body} bytes is over the limit")
    return header, body


def unpack(header: bytes, body: bytes) -> Frame:
    """Read a message back. Raises ValueError when the arrays do not fill the body."""
    fields = json.loads(header)
    if not isinstance(fields, dict):
        raise ValueError("a message is a JSON object")
    arrays, view, start = [], memoryview(body), 0
    for item in fields.pop("arrays", ()):
        end = start + item["bytes"]
        arrays.append(Array(item["name"], item["dtype"], tuple(item["shape"]), view[start:end]))
        start = end
    if start != len(body):
        raise ValueError(f"the arrays of a message take {start} bytes, its body has {len(body)}")
    return Frame(fields, tuple(arrays))


def read(stream: BinaryIO) -> Frame | None:
    """The next message of a blocking stream; None at its end. Raises EOFError when it ends within a message."""
    prefix = stream.read(PREFIX.size)
    if not prefix:
        return None
    header, body = (_exactly(stream, size) for size in lengths(prefix))
    return unpack(header, body)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError(f"the stream ended {size - len(data)} bytes early")
    return data
