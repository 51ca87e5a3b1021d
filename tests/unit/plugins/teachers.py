"""Tiny teachers for students: convolutional networks with drawn weights under interfaces of many kinds, and images for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

CLASSES = 5


def teacher(
    *, size: int = 16, channels: int = 3, layout: str = "NCHW", batch: str | int = "N", ending: str = "", opset: int = 17,
    width: int = 8,
) -> onnx.ModelProto:  # fmt: skip
    """Two convolutions, the mean, a matrix and ``ending`` (an operator, or nothing): from ``image`` to ``answer``."""
    draw = np.random.default_rng(3)
    constants: list[onnx.TensorProto] = []

    def constant(name: str, *shape: int) -> str:
        spread = 2.0 / np.sqrt(np.prod(shape[1:]))
        constants.append(numpy_helper.from_array((draw.standard_normal(shape) * spread).astype(np.float32), name))
        return name

    planes = "image" if layout == "NCHW" else "planes"
    nodes = [] if layout == "NCHW" else [helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])]
    nodes += [
        helper.make_node("Conv", [planes, constant("w1", width, channels, 3, 3)], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["wide"]),
        helper.make_node("Conv", ["wide", constant("w2", 2 * width, width, 3, 3)], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["deep"]),
        helper.make_node("GlobalAveragePool", ["deep"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", constant("w3", 2 * width, CLASSES)], ["scores" if ending else "answer"]),
    ]
    nodes += [helper.make_node(ending, ["scores"], ["answer"])] if ending else []
    shape = [batch, channels, size, size] if layout == "NCHW" else [batch, size, size, channels]
    entry = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    leaving = helper.make_tensor_value_info("answer", TensorProto.FLOAT, [batch, CLASSES])
    graph = helper.make_graph(nodes, "teacher", [entry], [leaving], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def images(count: int, *, size: int = 16, channels: int = 3, layout: str = "NCHW", scale: float = 1.0) -> Array:
    """Smooth blots of colour, so that there is something to see."""
    draw = np.random.default_rng(1)
    places = np.linspace(-1, 1, size)
    at = draw.uniform(-1, 1, (count, channels, 2, 1, 1))
    made = np.exp(-8 * ((places[:, None] - at[:, :, 0]) ** 2 + (places[None, :] - at[:, :, 1]) ** 2)) * draw.uniform(
        0.2, 1, (count, channels, 1, 1)
    )
    rows = (scale * made).astype(np.float32)
    return rows if layout == "NCHW" else np.ascontiguousarray(rows.transpose(0, 2, 3, 1))
