"""Where weights lie in a model file, read without a model library and held against onnx's own reading."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_compress.demo import data
from edge_compress.encoding import OnDisk
from edge_compress.layout import weights_in

DIGITS = Path(data.__file__).with_name("digits.onnx")


def test_every_tensor_is_where_onnx_says() -> None:
    file = DIGITS.read_bytes()
    raw = {item.raw_data for item in onnx.load(DIGITS).graph.initializer if item.raw_data}
    assert {file[one.start : one.end] for one in weights_in(file)} == raw
    assert weights_in(OnDisk(DIGITS)) == weights_in(file)


def test_constants_of_nodes_count_and_names_carry_kind_and_shape() -> None:
    value = numpy_helper.from_array(np.arange(6, dtype=np.int16).reshape(2, 3), "whatever")
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["made"], value=value)],
        "g",
        [],
        [helper.make_tensor_value_info("made", TensorProto.INT16, [2, 3])],
    )
    (found,) = weights_in(helper.make_model(graph).SerializeToString())
    assert (found.name, found.end - found.start, found.width) == ("made 5 02,03", 12, 2)


@given(st.binary(max_size=200))
def test_what_is_no_model_has_no_layout(file: bytes) -> None:
    assert all(0 <= one.start < one.end <= len(file) for one in weights_in(file))


@pytest.mark.parametrize("kept", [1, 100, 5000])
def test_a_torn_file_has_none_or_a_true_one(kept: int) -> None:
    whole = DIGITS.read_bytes()
    assert all(one.end <= kept for one in weights_in(whole[:kept]))


def test_a_file_of_nothing_but_fields_takes_bounded_time_and_memory() -> None:
    node = b"\x0a" + b"\xc0\xc4\x07" + b"\x08\x00" * 62_000  # in the graph, a node of 2-byte fields
    graph = node * 40
    length = len(graph)
    varint = bytearray()
    while length > 127:
        varint.append(length & 127 | 128)
        length >>= 7
    file = b"\x3a" + bytes([*varint, length]) + graph
    tracemalloc.start()
    assert weights_in(file) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
