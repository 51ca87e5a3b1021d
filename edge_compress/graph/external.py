"""Packs a model whose tensors lie in files beside it into one file, for the client that uploads it.

Works on the protobuf wire format with the standard library alone, because the client has no onnx. Field numbers are those of
``onnx.proto3``. A file is only read when it really lies in the model's own folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from edge_compress.errors import InvalidModel

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 100
_MOST_BYTES = 2**31 - 1
"""of a protobuf message"""
_EXTERNAL = 1

# message -> field number -> message of that field, for the ways that lead to a tensor
_WAYS: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 25: "Function", 20: "Training"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_NAME, _RAW, _ENTRY, _LOCATION = 8, 9, 13, 14


@dataclass(frozen=True)
class _Field:
    """One field as it stands: its number, wire type, the bytes of its value, and all its bytes with the tag."""

    number: int
    wire: int
    value: memoryview
    whole: memoryview


def inline_external_data(path: Path) -> bytes:
    """The bytes of the model with every external tensor put inside; the file's own bytes where there is none.

    Raises InvalidModel that names the tensor when a location is absolute, leaves the model's folder (by '..' or by a link),
    is missing, or is shorter than the tensor says, when the file is not ONNX, and when the whole takes more than one file can.
    """
    folder = _Folder(path.parent)
    folder.take(path.name, path.stat().st_size)
    data = path.read_bytes()
    try:
        return b"".join(_message("Model", memoryview(data), folder.read, 0))
    except (IndexError, _Malformed) as error:
        raise InvalidModel("read bytes that are not an ONNX model, or only part of one; export it again") from error


class _Malformed(Exception):
    """The bytes are no protobuf message."""


@dataclass
class _Folder:
    """The model's own folder, and how many bytes may still be read: many tensors may point to the same ones."""

    root: Path
    left: int = _MOST_BYTES

    def take(self, what: str, length: int) -> None:
        """Refuse what would not fit before it is read."""
        self.left -= length
        if self.left < 0:
            raise InvalidModel(f"{what}: with it the model takes more than {_MOST_BYTES} bytes, the most that one file can hold")

    def read(self, tensor: str, entries: Mapping[str, str]) -> bytes:
        """The bytes of one tensor."""
        path = self._inside(tensor, entries.get("location", ""))
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries["length"]) if "length" in entries else path.stat().st_size - offset
        except ValueError as error:
            raise InvalidModel(f"tensor {tensor!r}: read {error}, expected whole numbers for offset and length") from error
        if offset < 0 or length < 0 or offset + length > path.stat().st_size:
            raise InvalidModel(f"tensor {tensor!r}: {path.name} holds {path.stat().st_size} bytes, expected {offset + length}")
        self.take(f"tensor {tensor!r}", length)
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def _inside(self, tensor: str, location: str) -> Path:
        if not _relative(location) or not (self.root / location).resolve().is_relative_to(self.root.resolve()):
            raise InvalidModel(
                f"tensor {tensor!r}: read external data at {location!r}, expected a file inside the model's folder"
            )
        path = self.root / location
        if not path.is_file():
            raise InvalidModel(f"tensor {tensor!r}: external data {location!r} does not exist beside the model")
        return path


def _relative(location: str) -> bool:
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    absolute = PurePosixPath(location).is_absolute() or bool(PureWindowsPath(location).anchor)
    return bool(location) and "\0" not in location and not absolute and ".." not in parts


_Read = Callable[[str, Mapping[str, str]], bytes]


def _message(kind: str, data: memoryview, read: _Read, depth: int) -> Iterator[bytes | memoryview]:
    if depth > _MAX_DEPTH:
        raise _Malformed
    if kind == "Tensor":
        yield from _tensor(data, read)
        return
    ways = _WAYS[kind]
    for field in _fields(data):
        if field.number in ways and field.wire == _BYTES:
            inner = b"".join(_message(ways[field.number], field.value, read, depth + 1))
            yield _varint(field.number << 3 | _BYTES) + _varint(len(inner)) + inner
        else:
            yield field.whole


def _tensor(data: memoryview, read: _Read) -> Iterator[bytes | memoryview]:
    fields = list(_fields(data))
    external = any(field.number == _LOCATION and bytes(field.value) == _varint(_EXTERNAL) for field in fields)
    kept = [field for field in fields if not external or field.number not in (_RAW, _ENTRY, _LOCATION)]
    yield from (field.whole for field in kept)
    if external:
        name = next((bytes(field.value).decode(errors="replace") for field in fields if field.number == _NAME), "")
        raw = read(name, dict(_entry(field.value) for field in fields if field.number == _ENTRY))
        yield _varint(_RAW << 3 | _BYTES) + _varint(len(raw)) + raw


def _entry(data: memoryview) -> tuple[str, str]:
    said = {field.number: bytes(field.value).decode(errors="replace") for field in _fields(data)}
    return said.get(1, ""), said.get(2, "")


def _fields(data: memoryview) -> Iterator[_Field]:
    at = 0
    while at < len(data):
        tag, start = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            begin, end = start, _read_varint(data, start)[1]
        elif wire == _BYTES:
            length, begin = _read_varint(data, start)
            end = begin + length
        elif wire in (_FIXED64, _FIXED32):
            begin, end = start, start + (8 if wire == _FIXED64 else 4)
        else:
            raise _Malformed
        if end > len(data) or number == 0:
            raise _Malformed
        yield _Field(number, wire, data[begin:end], data[at:end])
        at = end


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise _Malformed


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
