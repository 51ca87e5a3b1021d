"""Where the weights lie in a model file, without any model library: a server that only sends files loads none.

Reads the protobuf of ONNX (onnx.proto: ModelProto.graph = 7, GraphProto.initializer = 5 and node = 1, AttributeProto.t = 5,
TensorProto dims = 1, data_type = 2, name = 8, raw_data = 9). Whatever is no such file has no known layout: it costs more bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload


class Bytes(Protocol):
    """Bytes, in memory or on a disk."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> bytes: ...


_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""bytes of an element by TensorProto.DataType; those in less than a byte count as bytes"""
_MOST = 100_000
"""tensors of one file that are looked at"""
_MOST_FIELDS = 1_000_000
"""fields of one file that are looked at: a file may be made to have nothing else"""
_LONGEST_NAME, _MOST_AXES = 1024, 16


@dataclass(frozen=True)
class Stored:
    """Values in a file: where they begin and end, and how many bytes each takes. ``name`` with kind and shape: the same in two
    files means the same weights."""

    name: str
    start: int
    end: int
    width: int


def weights_in(file: Bytes) -> list[Stored]:
    """Every tensor kept as raw bytes, by place; nothing where the file is no ONNX model, or one that nobody would make."""
    reader = _Reader(file)
    try:
        found = list(itertools.islice(reader.weights(), _MOST))
    except (ValueError, IndexError, EOFError):
        return []
    return sorted(found, key=lambda one: one.start)


def laid_beside(weights: Sequence[Stored], base: Sequence[Stored]) -> dict[str, int]:
    """Where the like of each weight begins in the base, by its name. Short names that a target gives all shift when two constants
    happen to be equal and are kept as one: where not all names are the same, weights of one kind and shape are taken in their
    order, if there are as many."""
    named = {one.name: one.start for one in base}
    if {one.name for one in weights} == named.keys():
        return named
    mine, theirs = _alike(weights), _alike(base)
    in_order = [kind for kind, members in mine.items() if len(members) == len(theirs.get(kind, ()))]
    pairs = (pair for kind in in_order for pair in zip(mine[kind], theirs[kind], strict=True))
    return named | {one.name: other.start for one, other in pairs}


def _alike(weights: Sequence[Stored]) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = {}
    for one in weights:
        found.setdefault(" ".join(one.name.rsplit(" ", 2)[1:]), []).append(one)
    return found


class _Reader:
    """Goes through a file once, in bounded time and memory."""

    def __init__(self, file: Bytes) -> None:
        self._file, self._left = file, _MOST_FIELDS

    def weights(self) -> Iterator[Stored]:
        for number, start, end in self._fields(0, len(self._file)):
            if number == 7:
                for inner, here, after in self._fields(start, end):
                    if inner == 5:
                        yield from self._tensor(here, after, "")
                    elif inner == 1:
                        yield from self._constants(here, after)

    def _constants(self, start: int, end: int) -> Iterator[Stored]:
        """Tensors among a node's attributes, named after what the node makes."""
        outputs = (self._text(here, after) for number, here, after in self._fields(start, end) if number == 2)
        made = next(outputs, "")
        for number, here, after in self._fields(start, end):
            if number == 5:
                for inner, begins, ends in self._fields(here, after):
                    if inner == 5:
                        yield from self._tensor(begins, ends, made)

    def _tensor(self, start: int, end: int, name: str) -> Iterator[Stored]:
        shape: list[str] = []
        kind, place = 0, (0, 0)
        for number, here, after in self._fields(start, end):
            if number == 1 and len(shape) < _MOST_AXES:
                shape.append(bytes(self._file[here : min(after, here + _LONGEST_NAME)]).hex())
            elif number == 2:
                kind = _varint(self._file, here)[0]
            elif number == 8:
                name = name or self._text(here, after)
            elif number == 9:
                place = here, after
        if place[1] > place[0]:
            yield Stored(f"{name} {kind} {','.join(shape)}", *place, _WIDTHS.get(kind, 1))

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(number, first byte, byte after) of each field of a message. Raises ValueError, IndexError for what is none."""
        while start < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("too many fields")
            tag, start = _varint(self._file, start)
            kind = tag & 7
            if kind == 2:
                length, start = _varint(self._file, start)
            elif kind == 0:
                length = _varint(self._file, start)[1] - start
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise ValueError("no protobuf")
            if start + length > end:
                raise ValueError("no protobuf")
            yield tag >> 3, start, start + length
            start += length

    def _text(self, start: int, end: int) -> str:
        return bytes(self._file[start : min(end, start + _LONGEST_NAME)]).decode("utf-8", "replace")


def _varint(file: Bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = file[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("no protobuf")
