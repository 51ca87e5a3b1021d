"""Quantities: what people write, what it means, and that showing it again loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_compress.domain import quantity as q
from edge_compress.errors import InvalidSpec

ALL = [q.BYTES, q.SECONDS, q.WATTS, q.JOULES, q.RATE, q.BITRATE, q.FLOPS, q.OPS, q.BANDWIDTH, q.SHARE]


@pytest.mark.parametrize(
    ("kind", "text", "amount"),
    [
        (q.BYTES, "64Mi", 64 * 2**20),
        (q.BYTES, "8M", 8_000_000),
        (q.BYTES, 1500, 1500),
        (q.BYTES, "1.5Ki", 1536),
        (q.SECONDS, "200ms", 0.2),
        (q.SECONDS, "10m", 600.0),
        (q.SECONDS, "33us", 33e-6),
        (q.WATTS, "2W", 2.0),
        (q.WATTS, "500mW", 0.5),
        (q.JOULES, "15mJ", 0.015),
        (q.RATE, "5/s", 5.0),
        (q.RATE, "30/m", 0.5),
        (q.BITRATE, "1Mbit", 1e6),
        (q.FLOPS, "8GFLOPS", 8e9),
        (q.OPS, "16GOPS", 16e9),
        (q.BANDWIDTH, "4GB/s", 4e9),
        (q.SHARE, "1%", 0.01),
        (q.SHARE, 0.95, 0.95),
    ],
)
def test_what_people_write_is_read_in_base_units(kind: q.Quantity, text: object, amount: float) -> None:
    assert kind.parse(text, "spec.x") == amount


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (q.BYTES, "-3Mi", "zero or more"),
        (q.BYTES, "64MB", "give a unit, one of"),
        (q.BYTES, "0.3", "whole number"),
        (q.BYTES, "9000Ti", "at most"),
        (q.BYTES, True, "a size like 64Mi"),
        (q.SECONDS, 200, "give a unit"),
        (q.SECONDS, "fast", "a duration like 200ms"),
        (q.SECONDS, "1e99s", "at most"),
        (q.SECONDS, "1e9999s", "a duration like 200ms"),
        (q.WATTS, float("nan"), "finite"),
        pytest.param(q.BYTES, "9" * 5000, "a size like 64Mi", id="5000 digits"),
        pytest.param(q.BYTES, "1e" + "9" * 5000, "a size like 64Mi", id="an exponent of 5000 digits"),
        pytest.param(q.BYTES, 10**4000, "a finite size", id="a number of 4000 digits"),
        (q.SHARE, "200%", "at most"),
        (q.RATE, None, "a rate like 5/s"),
    ],
)
def test_nonsense_is_refused_by_field(kind: q.Quantity, text: object, says: str) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.x: read ") as caught:
        kind.parse(text, "spec.x")
    assert says in str(caught.value)
    assert caught.value.violations[0].field == "spec.x"


@given(st.sampled_from(ALL), st.floats(min_value=0, max_value=1, allow_subnormal=False))
def test_shown_amounts_are_read_back_equal(kind: q.Quantity, share: float) -> None:
    amount = share * min(kind.maximum, 1e15)
    exact = int(amount) if kind.whole else amount
    assert kind.parse(kind.format(exact), "x") == exact


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        amount = q.BYTES.parse(text, "x")
    except InvalidSpec:
        return
    assert 0 <= amount <= q.BYTES.maximum
