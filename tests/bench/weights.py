"""Models of random weights: nothing in them repeats, so a link has to carry nearly all of their bytes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_WIDTH = 512
MATRIX_BYTES = _WIDTH * _WIDTH * 4


def chain(matrices: int, seed: int) -> bytes:
    """An ONNX model that multiplies (n, 512) by so many random float32 matrices of 1 MiB; values keep their size on the way."""
    draw = np.random.default_rng(seed)
    shape = (_WIDTH, _WIDTH)
    weights = [draw.standard_normal(shape, np.float32) * np.float32(_WIDTH**-0.5) for _ in range(matrices)]
    nodes = [helper.make_node("MatMul", [f"x{number}", f"w{number}"], [f"x{number + 1}"]) for number in range(matrices)]
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", _WIDTH]) for name in ("x0", f"x{matrices}"))
    taken, given = ([one] for one in ends)
    kept = [numpy_helper.from_array(values, f"w{number}") for number, values in enumerate(weights)]
    graph = helper.make_graph(nodes, "chain", taken, given, kept)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
