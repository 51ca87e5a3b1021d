"""Bytes packed by zstd alone, as a chunk of them travels to a receiver that knows no other form."""

from __future__ import annotations

from edge_compress.encoding import Form, Source, packed


def pack(data: bytes) -> tuple[bytes, bool]:
    """The bytes that travel, and whether they are a zstd frame."""
    made, form = packed(Source(data, ()), 0, len(data), frozenset({Form.IDENTITY, Form.ZSTD}))
    return made, form is Form.ZSTD
