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
from edge_compress.layout import Stored, laid_beside, weights_in

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


def stored(*names: str) -> list[Stored]:
    return [Stored(name, 100 * place, 100 * place + 100, 1) for place, name in enumerate(names)]


def test_weights_are_found_by_their_names_where_both_files_have_the_same() -> None:
    mine, base = stored("a 3 10", "b 3 10", "s 1 04"), stored("b 3 10", "s 1 04", "a 3 10")
    assert laid_beside(mine, base) == {"a 3 10": 200, "b 3 10": 0, "s 1 04": 100}


def test_weights_whose_names_shifted_are_found_by_their_order() -> None:
    """One constant less, because two happened to be equal: ``c`` is the name of another weight now."""
    mine, base = stored("a 3 10", "c 3 10", "d 3 20"), stored("a 3 10", "b 6 ", "d 3 10", "e 3 20")
    assert [laid_beside(mine, base)[one.name] for one in mine] == [0, 200, 300]


def test_weights_of_another_number_are_left_to_their_names() -> None:
    mine, base = stored("a 3 10", "b 3 10", "c 3 10"), stored("a 3 10", "c 3 10")
    found = laid_beside(mine, base)
    assert (found.get("a 3 10"), found.get("b 3 10"), found.get("c 3 10")) == (0, None, 100)


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
