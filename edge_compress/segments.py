"""Chunks of weights in a form that compresses better: byte planes, and differences from the file that the receiver has.

A chunk is cut into segments of values of one width. Of each, the difference to a segment of the base is taken where it has one
(value by value, without carry), then the bytes are laid out plane by plane: all lowest bytes, then all next ones. Everything here
can be undone from the chunk and the base alone, with no library: devices do it. Compressing is left to ``encoding``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from edge_compress.layout import Stored

_HEAD, _ENTRY = struct.Struct("<I"), struct.Struct("<IQB")
_WIDTHS = (1, 2, 4, 8)
_MOST_BYTES = 1 << 20
Base = Callable[[int, int], bytes]
"""(offset, length) -> so many bytes of the base from there; fewer at its end"""


@dataclass(frozen=True)
class Segment:
    """``length`` bytes of values ``width`` bytes wide; ``base``: where their like begin in the base, None: nowhere."""

    length: int
    width: int = 1
    base: int | None = None


def cut(start: int, end: int, stored: Sequence[Stored], bases: dict[str, int]) -> list[Segment]:
    """The segments of the bytes from ``start`` to ``end`` of a file. ``stored``: its weights, by place; ``bases``: where those of
    the same name begin in the base."""
    segments: list[Segment] = []
    at = start
    for one in stored:
        if one.start >= end:
            break
        if one.end <= at:
            continue
        if one.start > at:
            segments.append(Segment(one.start - at))
            at = one.start
        upto, base = min(end, one.end), bases.get(one.name)
        for begins, ends, width in _whole(at, upto, one):
            segments.append(Segment(ends - begins, width, None if base is None else base + begins - one.start))
        at = upto
    if at < end:
        segments.append(Segment(end - at))
    return segments


def _whole(start: int, end: int, one: Stored) -> Iterable[tuple[int, int, int]]:
    """The part of a tensor as bytes up to the first whole value, whole values, and what is left of one."""
    first = min(end, start + -(start - one.start) % one.width)
    last = max(first, end - (end - one.start) % one.width)
    parts = ((start, first, 1), (first, last, one.width), (last, end, 1))
    return (part for part in parts if part[1] > part[0])


def laid_out(chunk: bytes, segments: Sequence[Segment], base: Base | None) -> bytes:
    """The chunk in the form that compresses better, with what is needed to undo it in front."""
    head = [_HEAD.pack(len(segments))]
    body, at = [], 0
    for one in segments:
        data = chunk[at : at + one.length]
        old = base(one.base, one.length) if base is not None and one.base is not None else b""
        based = len(old) == one.length
        head.append(_ENTRY.pack(one.length, one.base + 1 if based and one.base is not None else 0, one.width))
        body.append(_planes(_minus(data, old, one.width) if based else data, one.width))
        at += one.length
    return b"".join(head + body)


def restored(data: bytes, base: Base | None) -> bytes:
    """Undo ``laid_out``. Raises ValueError for what it did not make, or where the base is missing or too short."""
    try:
        (count,) = _HEAD.unpack_from(data)
        at = _HEAD.size + count * _ENTRY.size
        if at > len(data):
            raise ValueError("the segments of a chunk are torn")
        entries = [_ENTRY.unpack_from(data, _HEAD.size + number * _ENTRY.size) for number in range(count)]
    except struct.error as error:
        raise ValueError(f"the segments of a chunk are torn: {error}") from error
    if sum(length for length, _, _ in entries) != len(data) - at or len(data) - at > _MOST_BYTES:
        raise ValueError("the segments of a chunk do not add up")
    made = []
    for length, place, width in entries:
        if width not in _WIDTHS or length % width:
            raise ValueError(f"a segment of {length} bytes has no values of {width}")
        value = _joined(data[at : at + length], width)
        if place:
            old = base(place - 1, length) if base is not None else b""
            if len(old) != length:
                raise ValueError("the base is not the file that a difference was made from")
            value = _plus(value, old, width)
        made.append(value)
        at += length
    return b"".join(made)


def _planes(data: bytes, width: int) -> bytes:
    return data if width == 1 else b"".join(data[number::width] for number in range(width))


def _joined(data: bytes, width: int) -> bytes:
    if width == 1:
        return data
    made, count = bytearray(len(data)), len(data) // width
    for number in range(width):
        made[number::width] = data[number * count : (number + 1) * count]
    return bytes(made)


@lru_cache(maxsize=16)
def _tops(length: int, width: int) -> tuple[int, int]:
    """The highest bit of every value, and all other bits."""
    top = int.from_bytes((b"\0" * (width - 1) + b"\x80") * (length // width), "little")
    return top, ((1 << (8 * length)) - 1) ^ top


def _minus(data: bytes, old: bytes, width: int) -> bytes:
    """Value by value, without carry from one to the next: one subtraction of two long numbers."""
    top, rest = _tops(len(data), width)
    one, other = int.from_bytes(data, "little"), int.from_bytes(old, "little")
    return (((one | top) - (other & rest)) ^ ((one ^ ~other) & top)).to_bytes(len(data), "little")


def _plus(data: bytes, old: bytes, width: int) -> bytes:
    top, rest = _tops(len(data), width)
    one, other = int.from_bytes(data, "little"), int.from_bytes(old, "little")
    return (((one & rest) + (other & rest)) ^ ((one ^ other) & top)).to_bytes(len(data), "little")
