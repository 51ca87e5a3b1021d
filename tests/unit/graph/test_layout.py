"""Axis order, mean and standard deviation: which order is chosen from shapes, and what ambiguity does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_compress.domain.model import TensorFacts
from edge_compress.domain.spec import Preprocess
from edge_compress.graph.layout import decide

U8 = np.dtype(np.uint8)


def _decided(row: tuple[int, ...], model: tuple[Any, ...], layout: str = "") -> tuple[int, ...]:
    return decide(row, U8, TensorFacts("i", "float32", ("N", *model)), Preprocess(layout=layout)).order


@pytest.mark.parametrize(
    ("row", "model", "layout", "order"),
    [
        ((32, 30, 3), (3, 32, 30), "NHWC", (0, 3, 1, 2)),
        ((32, 30, 3), (3, 32, 30), "", (0, 3, 1, 2)),
        ((32, 30, 3), (32, 30, 3), "NHWC", ()),
        ((32, 30, 3), ("h", "w", 3), "NHWC", ()),
        ((3, 32, 30), (3, 32, 30), "NCHW", ()),
        ((3, 32, 30), (32, 30, 3), "NCHW", (0, 2, 3, 1)),
        ((3, 32, 30), (32, 30, 3), "", (0, 2, 3, 1)),
        # Nothing in the shapes decides: a declared NHWC is turned, because vision models are channels-first.
        ((32, 32, 3), ("c", "h", "w"), "NHWC", (0, 3, 1, 2)),
        ((3, 3, 3), (3, 3, 3), "NHWC", (0, 3, 1, 2)),
        ((3, 3, 3), (3, 3, 3), "NCHW", ()),
        ((3, 3, 3), (3, 3, 3), "", ()),
        ((40,), (40,), "NHWC", ()),
    ],
)
def test_the_order_follows_from_shapes(row: tuple[int, ...], model: tuple[Any, ...], layout: str, order: tuple[int, ...]) -> None:
    assert _decided(row, model, layout) == order


@pytest.mark.parametrize(
    ("row", "model", "layout"), [((32, 30, 3), (3, 32, 30), "NCHW"), ((32, 30, 3), (1, 32, 30), "NHWC"), ((4,), (5,), "")]
)
def test_shapes_that_no_order_reconciles_are_refused(row: tuple[int, ...], model: tuple[Any, ...], layout: str) -> None:
    with pytest.raises(ValueError, match="read samples of shape"):
        _decided(row, model, layout)


def test_per_channel_numbers_go_to_the_stored_channel_axis() -> None:
    how = Preprocess(layout="NHWC", mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    conversion = decide((2, 2, 3), U8, TensorFacts("i", "float32", ("N", 3, 2, 2)), how)
    rows = np.full((1, 2, 2, 3), 11, np.uint8)
    got = conversion.apply(rows)
    assert got.shape == (1, 3, 2, 2)
    assert got[0, :, 0, 0].tolist() == [10.0, 4.5, 2.0]
    assert got.flags["C_CONTIGUOUS"]


def test_features_of_a_table_have_a_mean_each() -> None:
    conversion = decide((2,), np.dtype(np.float64), TensorFacts("i", "float32", ("N", 2)), Preprocess(mean=(1.0, 10.0)))
    assert conversion.apply(np.array([[2.0, 30.0]])).tolist() == [[1.0, 20.0]]


def test_integer_inputs_are_taken_as_they_are() -> None:
    conversion = decide((2,), np.dtype(np.int64), TensorFacts("ids", "uint8", ("N", 2)), Preprocess(mean=(127.0,), std=(128.0,)))
    assert conversion.apply(np.array([[3, 255]])).tolist() == [[3, 255]]
    with pytest.raises(ValueError, match="expected 0 to 255"):
        conversion.apply(np.array([[3, 256]]))


def test_half_precision_inputs_are_rounded_from_single() -> None:
    conversion = decide((1,), U8, TensorFacts("i", "float16", ("N", 1)), Preprocess(std=(3.0,)))
    assert conversion.apply(np.array([[1]], np.uint8)).dtype == np.float16


def test_foreign_byte_order_is_read() -> None:
    conversion = decide((1,), np.dtype(">f4"), TensorFacts("i", "float32", ("N", 1)), Preprocess())
    assert conversion.apply(np.array([[1.5]], ">f4")).tolist() == [[1.5]]


def test_text_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one that becomes the model's object"):
        decide((1,), U8, TensorFacts("i", "object", ("N", 1)), Preprocess())
