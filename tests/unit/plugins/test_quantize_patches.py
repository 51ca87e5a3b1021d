from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_quantize.patches import data_rows, from_rows, weight_rows
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
ALL = 1 << 30


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def computed(node: onnx.NodeProto, values: Array, weights: Array) -> Array:
    """What onnxruntime makes of a node."""
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": values})[0])


@pytest.mark.parametrize(
    ("data", "kernel", "attributes"),
    [
        ((2, 3, 8, 7), (4, 3, 3, 3), {}),
        ((2, 3, 8, 7), (4, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ((2, 3, 9, 9), (4, 3, 3, 3), {"dilations": [2, 3]}),
        ((2, 4, 8, 8), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
        ((2, 4, 8, 8), (4, 1, 5, 5), {"group": 4, "pads": [2, 2, 2, 2], "strides": [2, 2]}),
        ((2, 3, 8, 7), (4, 3, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((2, 3, 8, 7), (4, 3, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
        ((2, 3, 8, 7), (4, 3, 3, 3), {"auto_pad": "VALID"}),
        ((2, 3, 20), (4, 3, 5), {"pads": [2, 2], "strides": [3]}),
        ((1, 2, 5, 6, 7), (3, 2, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    ],
)
def test_rows_times_weights_are_the_convolution(
    data: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    values, weights = drawn(*data), drawn(*kernel, seed=1)
    products = np.matmul(data_rows(node, kernel[2:], values, ALL), weight_rows(node, weights, 0).transpose(0, 2, 1))
    wanted = np.moveaxis(computed(node, values, weights), 1, -1).reshape(-1, kernel[0])
    assert np.moveaxis(products, 0, 1).reshape(wanted.shape) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(("op", "axis", "attributes"), [("Gemm", 0, {"transB": 1}), ("Gemm", 1, {}), ("MatMul", 1, {})])
def test_rows_times_weights_are_the_matrix_product(op: str, axis: int, attributes: dict[str, Any]) -> None:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    values, weights = drawn(6, 5), drawn(4, 5, seed=1) if axis == 0 else drawn(5, 4, seed=1)
    rows = weight_rows(node, weights, axis)
    assert np.array_equal(from_rows(rows, weights, axis), weights)
    products = np.matmul(data_rows(node, (), values, ALL), rows.transpose(0, 2, 1))[0]
    assert products == pytest.approx(computed(node, values, weights), abs=1e-5)


@pytest.mark.parametrize("most", [1, 7, 100])
def test_no_more_rows_are_picked_than_asked_for_and_all_of_them_are_real(most: int) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    values = drawn(3, 2, 16, 16)
    every = {row.tobytes() for row in data_rows(node, (3, 3), values, ALL)[0]}
    picked = data_rows(node, (3, 3), values, most)[0]
    assert 1 <= len(picked) <= max(most, len(values))
    assert {row.tobytes() for row in picked} <= every
