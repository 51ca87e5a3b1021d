"""Packing for the link: what comes back, and how near it comes to what the bytes hold."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from edge_compress.demo import data as demo_data
from edge_compress.encoding import CHUNK_BYTES, Form, OnDisk, Source, chunks, packed, packed_bytes, unpack, unpacked
from tests.unit.packing import pack

try:
    from compression import zstd
except ImportError:
    from backports import zstd

DIGITS = Path(demo_data.__file__).with_name("digits.onnx")


def few_bits(count: int) -> bytes:
    """Weights in about three bits, as quantisation leaves them."""
    return np.random.default_rng(0).normal(0, 2, count).round().astype(np.int8).tobytes()


def held(data: bytes) -> float:
    """Bytes of an ideal coder with one table."""
    share = np.unique(np.frombuffer(data, np.uint8), return_counts=True)[1] / len(data)
    return float(-(share * np.log2(share)).sum() * len(data) / 8)


@pytest.mark.parametrize("data", [b"", b"a", bytes(CHUNK_BYTES), few_bits(CHUNK_BYTES), few_bits(1000)], ids=len)
def test_what_is_packed_comes_back(data: bytes) -> None:
    packed, smaller = pack(data)
    assert (unpack(packed) if smaller else packed) == data
    assert len(packed) <= len(data)


def test_weights_in_few_bits_take_what_they_hold() -> None:
    data = few_bits(CHUNK_BYTES)
    assert len(pack(data)[0]) < 1.03 * held(data)  # zstd at level 12 takes 1.15 times as much


def test_what_does_not_shrink_is_sent_as_it_is() -> None:
    data = np.random.default_rng(0).bytes(CHUNK_BYTES)
    assert pack(data) == (data, False)


def test_a_file_counts_as_its_chunks(tmp_path: Path) -> None:
    data = few_bits(CHUNK_BYTES + 5000)
    (tmp_path / "file").write_bytes(data)
    assert packed_bytes(tmp_path / "file") == sum(len(pack(part)[0]) for part in (data[:CHUNK_BYTES], data[CHUNK_BYTES:]))


def test_what_unpacks_to_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 100 bytes"):
        unpack(pack(bytes(200))[0], limit=100)
    with pytest.raises(ValueError, match="not a zstd frame"):
        unpack(b"nothing of the kind")


def changed(how: str) -> bytes:
    """The demo's network with other weights."""
    model = onnx.load(DIGITS)
    random = np.random.default_rng(0)
    for number, tensor in enumerate(item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT):
        value = numpy_helper.to_array(tensor)
        if how == "all a little" or number == 0:
            value = (value * (1 + random.normal(0, 1e-3, value.shape))).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model.SerializeToString()


def on_the_link(new: bytes, base: bytes | None) -> tuple[int, set[Form]]:
    """Bytes that travel, and in which forms; what comes out is checked."""
    source = Source.of(new, base)
    total, forms = 0, set()
    for start, end in chunks(len(new)):
        data, form = packed(source, start, end)
        assert unpacked(data, form, source.read_base if base else None) == new[start:end]
        total, forms = total + len(data), forms | {form}
    return total, forms


@pytest.mark.parametrize(("how", "most", "form"), [("one tensor", 0.1, Form.PATCH), ("all a little", 0.7, Form.DELTA)])
def test_an_update_is_smaller_than_the_file(how: str, most: float, form: Form) -> None:
    base = onnx.load(DIGITS).SerializeToString()
    new = changed(how)
    full, planes = on_the_link(new, None)
    update, forms = on_the_link(new, base)
    assert (planes, forms) == ({Form.PLANES}, {form})
    assert update < most * full
    assert full < 0.97 * len(zstd.compress(new, level=19))


def test_a_base_that_is_another_file_is_found_out_by_its_bytes() -> None:
    base = onnx.load(DIGITS).SerializeToString()
    data, form = packed(Source.of(changed("all a little"), base), 0, CHUNK_BYTES)
    assert form is Form.DELTA
    wrong = unpacked(data, form, lambda start, length: bytes(length))
    assert wrong != changed("all a little")[:CHUNK_BYTES]
    with pytest.raises(ValueError, match="base"):
        unpacked(data, form, None)


@given(st.sampled_from(Form), st.binary(max_size=100))
def test_garbage_of_any_form_is_refused_or_gives_bytes(form: Form, data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(unpacked(data, form, lambda start, length: bytes(min(length, 1000))), bytes)


def test_a_file_that_is_cut_off_while_it_is_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))
    held = OnDisk(path)
    os.truncate(path, 5000)
    assert held[:5000] == bytes(5000)
    with pytest.raises(EOFError):
        held[4000:6000]
