"""Planes and differences: undone exactly, whatever the bytes, and refused where they were tampered with."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_compress.layout import Stored
from edge_compress.segments import Segment, cut, laid_out, restored

WIDTHS = st.sampled_from([1, 2, 4, 8])


@st.composite
def chunks(draw: st.DrawFn) -> tuple[bytes, bytes, list[Segment]]:
    """A chunk, a base, and segments that cover the chunk."""
    base = draw(st.binary(max_size=300))
    segments = []
    for width, count, based in draw(st.lists(st.tuples(WIDTHS, st.integers(0, 12), st.booleans()), max_size=6)):
        length = width * count
        fits = based and length <= len(base)
        segments.append(Segment(length, width, draw(st.integers(0, len(base) - length)) if fits else None))
    total = sum(one.length for one in segments)
    return draw(st.binary(min_size=total, max_size=total)), base, segments


@given(chunks())
def test_what_is_laid_out_comes_back(made: tuple[bytes, bytes, list[Segment]]) -> None:
    chunk, base, segments = made

    def read(start: int, length: int) -> bytes:
        return base[start : start + length]

    assert restored(laid_out(chunk, segments, read), read) == chunk
    assert restored(laid_out(chunk, segments, None), None) == chunk


@pytest.mark.parametrize(("kind", "width"), [("<u1", 1), ("<u2", 2), ("<u4", 4), ("<u8", 8)])
def test_differences_are_those_of_numbers_without_carry(kind: str, width: int) -> None:
    random = np.random.default_rng(0)
    new, old = (random.integers(0, np.iinfo(kind).max, 100, dtype=kind, endpoint=True) for _ in range(2))
    made = laid_out(new.tobytes(), [Segment(100 * width, width, 0)], lambda start, length: old.tobytes()[start : start + length])
    planes = np.frombuffer(made[-100 * width :], np.uint8).reshape(width, 100)
    assert np.array_equal(planes.T.copy().view(kind)[:, 0], new - old)


@given(st.binary(max_size=80))
def test_garbage_is_refused_or_gives_bytes(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(restored(data, lambda start, length: b"x" * min(length, 10)), bytes)


def test_a_base_that_is_missing_or_too_short_is_said() -> None:
    made = laid_out(b"12345678", [Segment(8, 4, 2)], lambda start, length: b"0123456789"[start : start + length])
    for base in (None, lambda start, length: b"01234"[start : start + length]):
        with pytest.raises(ValueError, match="base"):
            restored(made, base)


def test_segments_follow_the_weights_and_whole_values() -> None:
    stored = [Stored("a", 10, 30, 4), Stored("b", 30, 36, 2), Stored("c", 50, 60, 1)]
    assert cut(0, 64, stored, {"a": 110, "c": 7}) == [
        Segment(10), Segment(20, 4, 110), Segment(6, 2), Segment(14), Segment(10, 1, 7), Segment(4),
    ]  # fmt: skip
    assert cut(12, 28, stored, {"a": 110}) == [Segment(2, 1, 112), Segment(12, 4, 114), Segment(2, 1, 126)]
    assert cut(40, 45, stored, {}) == [Segment(5)]
