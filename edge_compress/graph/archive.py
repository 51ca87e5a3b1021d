"""Reads a .pt2 archive (``torch.export.save``) that nobody vouches for, as bytes, JSON and numbers; nothing of it is ever run.

Such a file is a zip whose graph is JSON and whose tensors are raw bytes, but torch may put pickles in it too (sample inputs,
custom objects, exotic tensors), and unpickling runs code. Pickles are not opened here: sample inputs are passed over, and a
model that needs another one is refused. What the JSON of the graph means is left to ``program``.

Source: torch.export.pt2_archive, "PT2 Archive Spec" (archive version 0), as torch 2.13 writes it.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_compress.errors import InvalidModel, TooLarge

MAGIC = b"PK\x03\x04"
MAX_MEMBERS = 100_000
MAX_JSON_BYTES = 64 * 2**20
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BYTES_OF: Mapping[int, int] = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""bytes of one element by torch's number of its type: whole numbers of 8 to 64 bits, halves, floats, doubles, bool, bfloat16"""
_STRIDED = 7


@dataclass(frozen=True)
class Stored:
    """One tensor of the archive: a window of ``shape`` and ``strides`` (elements) into ``data``, from element ``offset`` on."""

    dtype: int
    """torch's number of the element type"""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    data: bytes


@dataclass(frozen=True)
class Archive:
    """The one program of a file, as JSON, and its tensors by their name in the module that was exported."""

    program: Mapping[str, Any]
    tensors: Mapping[str, Stored]


def is_archive(path: Path) -> bool:
    """Whether the file is a zip, by its first bytes: an ONNX model never begins like that, whatever the file is called."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_archive(path: Path, max_bytes: int) -> Archive:
    """Program and tensors, at most ``max_bytes`` of them uncompressed. Raises InvalidModel, TooLarge."""
    try:
        with zipfile.ZipFile(path) as zipped:
            return _read(_Members(zipped, max_bytes), max_bytes)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, UnicodeError) as error:
        raise InvalidModel(f"read a .pt2 archive that is damaged ({_brief(error)}); export it again") from error


def _read(members: _Members, max_bytes: int) -> Archive:
    programs = [name for name in members.names if re.fullmatch(r"models/[^/]+\.json", name)]
    if len(programs) != 1:
        raise InvalidModel(
            f"read a zip with {len(programs)} exported programs, expected one; save the model with torch.export.save, "
            "torch 2.9 or newer"
        )
    name = programs[0].removeprefix("models/").removesuffix(".json")
    if "byteorder" in members.names and members.read("byteorder") != b"little":
        raise InvalidModel("read an archive in big-endian order, expected little")
    room = _Room(max_bytes)
    tensors: dict[str, Stored] = {}
    for folder in ("constants", "weights"):
        config = f"data/{folder}/{name}_{folder}_config.json"
        if f"data/{folder}/{name}.pt" in members.names:
            raise InvalidModel(f"read {folder} stored as a pickle, which is never opened; save it with torch 2.9 or newer")
        if config in members.names:
            tensors |= _tensors(members, f"data/{folder}", members.json(config), room)
    return Archive(members.json(programs[0]), tensors)


class _Members:
    """The members of a zip, without the folder that holds them all. Sizes are checked before anything is unpacked."""

    def __init__(self, zipped: zipfile.ZipFile, max_bytes: int) -> None:
        infos = zipped.infolist()
        if len(infos) > MAX_MEMBERS:
            raise InvalidModel(f"read an archive of {len(infos)} files, expected at most {MAX_MEMBERS}")
        if not infos or min(info.header_offset for info in infos) > 0:  # the end of a zip inside a torn one
            raise zipfile.BadZipFile("it is not whole")
        total = sum(info.file_size for info in infos)
        if total > max_bytes:
            raise TooLarge(f"read an archive that unpacks to {total} bytes, expected at most {max_bytes}")
        self._zipped = zipped
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            self._add(info)

    @property
    def names(self) -> frozenset[str]:
        """Every file's path inside the common folder."""
        return frozenset(self._infos)

    def read(self, name: str) -> bytes:
        """The bytes of a file, its checksum checked. Raises InvalidModel when it does not exist."""
        if name not in self._infos:
            raise InvalidModel(f"the archive says that it holds {name!r}, which is not there; export it again")
        return self._zipped.read(self._infos[name])

    def json(self, name: str) -> Mapping[str, Any]:
        """A file that is one JSON object. Raises InvalidModel."""
        size = self._infos[name].file_size
        if size > MAX_JSON_BYTES:
            raise InvalidModel(f"{name}: read {size} bytes of JSON, expected at most {MAX_JSON_BYTES}")
        try:
            value = json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise InvalidModel(f"{name}: is not JSON ({_brief(error)})") from error
        if not isinstance(value, dict):
            raise InvalidModel(f"{name}: read a JSON {type(value).__name__}, expected an object")
        return value

    def _add(self, info: zipfile.ZipInfo) -> None:
        parts = info.filename.split("/")
        if ".." in parts or "" in parts[:-1] or "\\" in info.filename or "\0" in info.orig_filename:
            raise InvalidModel(f"read the path {info.filename!r} in the archive, expected one inside it")
        name = "/".join(parts[1:])
        if name in self._infos:
            raise InvalidModel(f"the archive holds {name!r} twice")
        if name:
            self._infos[name] = info


@dataclass
class _Room:
    """How many bytes of tensors may still be made: a few stored bytes can be declared as any number of elements."""

    left: int

    def take(self, name: str, size: int) -> None:
        """Refuse a tensor before it is made."""
        self.left -= size
        if self.left < 0:
            raise TooLarge(f"with tensor {name!r} the archive takes more bytes than a model may have")


def _tensors(members: _Members, folder: str, config: Mapping[str, Any], room: _Room) -> dict[str, Stored]:
    entries = config.get("config")
    if not isinstance(entries, dict):
        raise InvalidModel(f"{folder}: read no list of tensors")
    blobs: dict[str, bytes] = {}
    found = {}
    for name, entry in entries.items():
        file = _file_of(name, entry)
        if file not in blobs:
            blobs[file] = members.read(f"{folder}/{file}")
        found[name] = _stored(name, entry.get("tensor_meta"), blobs[file], room)
    return found


def _file_of(name: str, entry: Any) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("path_name"), str) or not _PLAIN.fullmatch(entry["path_name"]):
        raise InvalidModel(f"tensor {name!r}: read no plain file name for its bytes")
    if entry.get("use_pickle") is not False:
        raise InvalidModel(f"tensor {name!r} is stored as a pickle, which is never opened; export a model of plain tensors")
    file: str = entry["path_name"]
    return file


def _stored(name: str, meta: Any, data: bytes, room: _Room) -> Stored:
    kind = meta.get("dtype") if isinstance(meta, dict) and meta.get("layout") == _STRIDED else None
    if type(kind) is not int or kind not in _BYTES_OF:
        raise InvalidModel(
            f"tensor {name!r}: read a layout or element type that is not taken, expected a dense one of plain numbers"
        )
    shape, strides = (_whole(name, meta.get(key)) for key in ("sizes", "strides"))
    (offset,) = _whole(name, [meta.get("storage_offset")])
    if len(shape) != len(strides):
        raise InvalidModel(f"tensor {name!r}: read {len(shape)} axes and {len(strides)} strides")
    size = _BYTES_OF[kind]
    last = offset + sum((axis - 1) * stride for axis, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * size > len(data):
        raise InvalidModel(f"tensor {name!r}: read {len(data)} bytes, expected {(last + 1) * size} for shape {list(shape)}")
    room.take(name, math.prod(shape) * size)
    return Stored(kind, shape, strides, offset, data)


def _whole(name: str, items: Any) -> tuple[int, ...]:
    values = [item.get("as_int") if isinstance(item, dict) else None for item in items] if isinstance(items, Sequence) else [None]
    for value in values:
        if type(value) is not int or not 0 <= value < 2**40:
            raise InvalidModel(f"tensor {name!r}: read sizes {str(items)[:80]}, expected whole numbers")
    return tuple(value for value in values if value is not None)


def _brief(error: Exception, limit: int = 120) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
