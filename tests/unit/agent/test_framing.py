from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_compress.agent.framing import PREFIX, Array, lengths, pack, read, unpack


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda key: key != "arrays"), st.integers() | st.text() | st.booleans(), max_size=3
    ),
    st.lists(st.binary(max_size=50), max_size=3),
)
def test_what_is_packed_is_read_back(fields: dict[str, object], blobs: list[bytes]) -> None:
    arrays = tuple(Array(f"a{index}", "|u1", (len(data),), data) for index, data in enumerate(blobs))
    frame = read(io.BytesIO(pack(fields, arrays)))
    assert frame is not None
    assert frame.fields == fields
    assert [(item.name, item.dtype, item.shape, bytes(item.data)) for item in frame.arrays] == [
        (item.name, item.dtype, item.shape, item.data) for item in arrays
    ]


def test_the_end_of_a_stream_is_none_and_within_a_message_an_error() -> None:
    assert read(io.BytesIO(b"")) is None
    whole = pack({"verb": "load"}, [Array("x", "<f4", (2,), bytes(8))])
    for cut in (PREFIX.size + 1, len(whole) - 1):
        with pytest.raises(EOFError):
            read(io.BytesIO(whole[:cut]))


def test_absurd_lengths_and_bodies_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        lengths(struct.pack("!II", 2**31, 0))
    with pytest.raises(ValueError, match="its body has 3"):
        unpack(b"{}", b"abc")
    with pytest.raises(ValueError, match="JSON object"):
        unpack(b"[]", b"")
