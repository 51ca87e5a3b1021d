"""Reads arrays out of an uploaded .npz a few rows at a time, trusting nothing it says about itself.

A member is refused before any of its data is read when it is pickled, structured, in Fortran order, or when its header and
the archive disagree about its size. What the arrays mean to a model is left to ``samples``.
"""

from __future__ import annotations

import itertools
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

MAX_ARRAY_BYTES = 64 * 2**30
"""largest array, uncompressed"""
MAX_ROW_BYTES = 256 * 2**20
"""largest single sample, uncompressed"""
CHUNK_BYTES = 8 * 2**20
"""what is read at a time where the reader is free to choose"""

Array = np.ndarray[Any, Any]


class BadMember(Exception):
    """An array cannot be read; ``name`` is the array and ``said`` what is wrong with it. ``samples`` names the field."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"array {name!r}: {said}")
        self.name, self.said = name, said


@dataclass(frozen=True)
class Member:
    """One array of the file: ``rows`` samples of ``row_shape``."""

    name: str
    dtype: np.dtype[Any]
    rows: int
    row_shape: tuple[int, ...]
    archive: Path
    entry: str
    header_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample as stored."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    def numbered(self) -> Iterator[tuple[int, Array]]:
        """Every row once, in chunks of about ``CHUNK_BYTES`` with the number of their first row. Raises BadMember."""
        rows = max(1, CHUNK_BYTES // max(1, self.row_bytes))
        return zip(itertools.count(0, rows), self.chunks(rows))

    def chunks(self, rows: int, *, skip: int = 0, limit: int | None = None) -> Iterator[Array]:
        """Arrays of at most ``rows`` rows in file order, from row ``skip`` on, ``limit`` rows in all. Raises BadMember."""
        end = self.rows if limit is None else min(self.rows, skip + limit)
        try:
            with zipfile.ZipFile(self.archive) as archive, archive.open(self.entry) as stream:
                stream.read(self.header_bytes)  # a seek would switch off the check of the archive's checksum
                if skip:
                    stream.seek(self.header_bytes + skip * self.row_bytes)
                for start in range(skip, end, rows):
                    yield self._read(stream, min(rows, end - start))
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise BadMember(self.name, f"is damaged ({_brief(error)})") from error

    def _read(self, stream: IO[bytes], rows: int) -> Array:
        wanted = rows * self.row_bytes
        data = stream.read(wanted)
        if len(data) != wanted:
            raise BadMember(self.name, f"ends {wanted - len(data)} bytes early")
        return np.frombuffer(data, dtype=self.dtype).reshape(rows, *self.row_shape)


def read_members(path: Path) -> Mapping[str, Member | BadMember]:
    """Every array of the file by name, or what is wrong with it. Reads headers only.

    Raises zipfile.BadZipFile or OSError when the file is not an archive at all.
    """
    members: dict[str, Member | BadMember] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if info.filename == name or name in members:
                members[name] = BadMember(name, "appears twice" if name in members else "is not an .npy array")
                continue
            try:
                members[name] = _read_header(archive, info, name, path)
            except BadMember as bad:
                members[name] = bad
    return members


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, path: Path) -> Member:
    if info.flag_bits & 0x1:
        raise BadMember(name, "is encrypted")
    try:
        with archive.open(info) as stream:
            shape, fortran_order, dtype = _npy_header(stream)
            header_bytes = stream.tell()
    except (
        Exception
    ) as error:  # numpy reads the header with Python's own parser, which raises anything from SyntaxError to MemoryError
        raise BadMember(name, f"is not a readable .npy array ({_brief(error)})") from error
    _refuse_dtype(name, dtype)
    _refuse_shape(name, shape, dtype, declared=info.file_size - header_bytes)
    if fortran_order and len(shape) > 1:
        raise BadMember(name, "is in Fortran order; save it with numpy.ascontiguousarray")
    return Member(name, dtype, shape[0], shape[1:], path, info.filename, header_bytes)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise ValueError(f"format version {version[0]}.{version[1]}")


def _refuse_dtype(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise BadMember(name, "holds Python objects (a pickle); save it with a numeric dtype")
    if dtype.kind not in "biuf":
        raise BadMember(name, f"read dtype {dtype}, expected numbers")


def _refuse_shape(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], declared: int) -> None:
    if not shape:
        raise BadMember(name, "is a single number, expected one row a sample")
    if any(axis < 0 for axis in shape) or 0 in shape[1:]:
        raise BadMember(name, f"read shape {shape}, expected samples of at least one element")
    total = math.prod(shape) * dtype.itemsize
    if total != declared:
        raise BadMember(name, f"its header says {total} bytes, the archive holds {declared}")
    if total > MAX_ARRAY_BYTES:
        raise BadMember(name, f"is {total} bytes uncompressed, at most {MAX_ARRAY_BYTES} are read")
    if shape[0] and total // shape[0] > MAX_ROW_BYTES:
        raise BadMember(name, f"one sample is {total // shape[0]} bytes, at most {MAX_ROW_BYTES} are read")


def _brief(error: Exception, limit: int = 120) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
