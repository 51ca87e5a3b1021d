"""How bytes are packed for the link: chunks of 512 KiB, each by itself in the form that is smallest.

Each chunk stands by itself, so that a transfer resumes at any chunk boundary. Server, agent and the figures that people see use
this one reckoning. Forms: as they are; a zstd frame; a frame of byte planes; and, for a receiver that has another file, the base:
a frame of differences to it, or one made with a stretch of it as dictionary (zstd's --patch-from), where most bytes are the same.
What planes and differences are is left to ``segments``, where the weights lie to ``layout``.
"""

from __future__ import annotations

import enum
import os
import struct
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from edge_compress import segments
from edge_compress.layout import Bytes, Stored, laid_beside, weights_in

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 512 * 1024
REVISION = 4
"""of how chunks are packed: what is remembered of packed sizes is remembered with it"""
_LEVEL = 12
_WORTH_MORE = 0.85
"""share that the quick level must shrink a chunk to for a slow one to be tried: float weights gain a tenth of a per cent by it"""
_SLOW: dict[int, int] = {zstd.CompressionParameter.compression_level: 16, zstd.CompressionParameter.min_match: 7}
"""for weights in few bits: shorter matches are chance there and cost more than the bytes themselves (6% of an int8 model)"""
_SLOW_DIFFERENCES: dict[int, int] = {zstd.CompressionParameter.compression_level: 19}
"""for differences of integers, which are mostly nothing: 9% fewer bytes; those of floats gain 0.3% in twice the time"""
_TINY, _GOOD = 0.02, 0.7
"""shares of a chunk: smaller than these, other forms are not tried, each of which takes time"""
_AROUND = 256 * 1024
"""bytes of the base on either side of a chunk's place that its dictionary takes in"""
_WINDOW_BYTES = 1 << 16
_PATCH = struct.Struct("<QI")
_LEAST_STRETCH = 8
"""bytes that zstd takes for a dictionary, at least"""
_HEADS = 1 << 18
"""bytes that the segments of a chunk may take in front of it"""
_FAR: dict[int, int] = {zstd.CompressionParameter.compression_level: _LEVEL, zstd.CompressionParameter.window_log: 22}
"""a window that holds a chunk and its dictionary"""
_FAR_SLOW = {
    **_FAR,
    zstd.CompressionParameter.compression_level: 16,
    zstd.CompressionParameter.min_match: 3,
}
"""the same where the quick way shows that much is alike: what lies between scattered changes is short, a fifth fewer bytes"""


class Form(enum.Enum):
    """How a chunk travels. Planes need nothing; differences and patches need the base."""

    IDENTITY = 1
    ZSTD = 2
    PLANES = 3
    DELTA = 4
    PATCH = 5


@dataclass(frozen=True)
class Source:
    """A file to send. ``base``: one that the receiver has."""

    file: Bytes
    weights: Sequence[Stored]
    base: Bytes | None = None
    places: dict[str, int] | None = None
    """where the base's like of a weight begins, by the name of the weight"""

    @staticmethod
    def of(file: Bytes, base: Bytes | None = None) -> Source:
        """With the layouts of both."""
        weights = weights_in(file)
        places = None if base is None else laid_beside(weights, weights_in(base))
        return Source(file, weights, base, places)

    def read_base(self, start: int, length: int) -> bytes:
        """Some bytes of the base, or fewer at its end."""
        return b"" if self.base is None else bytes(self.base[start : start + length])


def packed(source: Source, start: int, end: int, forms: frozenset[Form] = frozenset(Form)) -> tuple[bytes, Form]:
    """The bytes to send for those from ``start`` to ``end`` of a file, and their form: the smallest of those allowed."""
    chunk = bytes(source.file[start:end])
    found = [(chunk, Form.IDENTITY)]
    parts = segments.cut(start, end, source.weights, source.places or {})
    if Form.PATCH in forms and source.base is not None:
        found.append((_patched(chunk, source, start, end), Form.PATCH))
    if Form.DELTA in forms and any(one.base is not None for one in parts) and not _tiny(found, chunk):
        slow = _SLOW if _wide(parts) > 0.5 * len(chunk) else _SLOW_DIFFERENCES
        found.append((_squeezed(segments.laid_out(chunk, parts, source.read_base), slow), Form.DELTA))
    if Form.PLANES in forms and any(one.width > 1 for one in parts) and not _good(found, chunk):
        found.append((_squeezed(segments.laid_out(chunk, parts, None)), Form.PLANES))
    if Form.ZSTD in forms and not _good(found, chunk):
        found.append((_squeezed(chunk), Form.ZSTD))
    return min(found, key=lambda pair: len(pair[0]))


def _wide(parts: Sequence[segments.Segment]) -> int:
    """Bytes in values of more than one byte."""
    return sum(one.length for one in parts if one.width > 1)


def _tiny(found: list[tuple[bytes, Form]], chunk: bytes) -> bool:
    """Whether nearly all bytes are the base's: differences would say the same."""
    return any(len(data) < _TINY * len(chunk) for data, _ in found)


def _good(found: list[tuple[bytes, Form]], chunk: bytes) -> bool:
    """Whether the base helped so much that forms without it cannot be better."""
    return any(form in (Form.DELTA, Form.PATCH) and len(data) < _GOOD * len(chunk) for data, form in found)


def unpacked(data: bytes, form: Form, base: segments.Base | None, limit: int = 2 * CHUNK_BYTES) -> bytes:
    """The chunk behind ``data``. Raises ValueError for what has not that form, or where the base is missing."""
    if form is Form.IDENTITY:
        if len(data) > limit:
            raise ValueError(f"a chunk is over {limit} bytes")
        return data
    if form is Form.PATCH:
        return _unpatched(data, base, limit)
    plain = unpack(data, limit + _HEADS if form in (Form.PLANES, Form.DELTA) else limit)
    return plain if form is Form.ZSTD else segments.restored(plain, base if form is Form.DELTA else None)


def unpack(data: bytes, limit: int = 2 * CHUNK_BYTES) -> bytes:
    """The chunk behind a zstd frame. Raises ValueError for what is no whole frame or unpacks to more than ``limit`` bytes."""
    return _frame(zstd.ZstdDecompressor(), data, limit)


def packed_bytes(path: Path, base: Path | None = None) -> int:
    """Bytes that a file takes on the link, for a receiver that has ``base``, or nothing like it."""
    source = Source.of(OnDisk(path), None if base is None else OnDisk(base))
    return sum(len(packed(source, start, end)[0]) for start, end in chunks(len(source.file)))


def chunks(size: int) -> Iterator[tuple[int, int]]:
    """Where each chunk of a file begins and ends."""
    return ((start, min(size, start + CHUNK_BYTES)) for start in range(0, size, CHUNK_BYTES))


class OnDisk:
    """A file's bytes, read when they are asked for: it may be larger than memory, and one that is cut off under us raises
    EOFError (a mapped file would end the process). Closed with the last who uses it. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._size = os.fstat(self._file).st_size
        self._window, self._from = b"", 0

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> bytes: ...
    def __getitem__(self, place: int | slice) -> int | bytes:
        if isinstance(place, slice):
            start, stop, _ = place.indices(self._size)
            return self._read(start, max(0, stop - start))
        if not self._from <= place < self._from + len(self._window):
            if not 0 <= place < self._size:
                raise IndexError(place)
            self._from, self._window = place, self._read(place, min(_WINDOW_BYTES, self._size - place))
        return self._window[place - self._from]

    def _read(self, start: int, length: int) -> bytes:
        data = os.pread(self._file, length, start)
        if len(data) != length:
            raise EOFError("a file became shorter while it was read")
        return data


def _squeezed(data: bytes, slow: dict[int, int] = _SLOW) -> bytes:
    packed = zstd.compress(data, level=_LEVEL)
    if len(packed) <= _WORTH_MORE * len(data):
        packed = min(packed, zstd.compress(data, options=slow), key=len)
    return packed


def _patched(chunk: bytes, source: Source, start: int, end: int) -> bytes:
    first = max(0, start - _AROUND)
    stretch = source.read_base(first, end + _AROUND - first)
    if len(stretch) < _LEAST_STRETCH:
        return chunk
    base = zstd.ZstdDict(stretch, is_raw=True).as_prefix
    frame = zstd.compress(chunk, options=_FAR, zstd_dict=base)
    if len(frame) < _GOOD * len(chunk):
        frame = min(frame, zstd.compress(chunk, options=_FAR_SLOW, zstd_dict=base), key=len)
    return _PATCH.pack(first, len(stretch)) + frame


def _unpatched(data: bytes, base: segments.Base | None, limit: int) -> bytes:
    if len(data) < _PATCH.size or base is None:
        raise ValueError("a patch without a base")
    first, length = _PATCH.unpack_from(data)
    if length > 2 * CHUNK_BYTES + 2 * _AROUND:
        raise ValueError("a patch asks for too much of its base")
    stretch = base(first, length)
    if len(stretch) != length or length < _LEAST_STRETCH:
        raise ValueError("the base is not the file that a patch was made from")
    return _frame(zstd.ZstdDecompressor(zstd_dict=zstd.ZstdDict(stretch, is_raw=True).as_prefix), data[_PATCH.size :], limit)


def _frame(unpacker: zstd.ZstdDecompressor, data: bytes, limit: int) -> bytes:
    try:
        plain: bytes = unpacker.decompress(data, max_length=limit + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"not a zstd frame: {error}") from error
    if len(plain) > limit:
        raise ValueError(f"a chunk unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise ValueError("a zstd frame is torn")
    return plain
