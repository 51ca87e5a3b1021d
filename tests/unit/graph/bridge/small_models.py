"""Models of one or a few nodes, and what every test of the bridge holds them to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.bridge import check_parity, to_onnx, to_torch

Array = np.ndarray[Any, Any]

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL, "int32": TensorProto.INT32}


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def model_of(nodes, feeds, outputs, constants=None, *, opset=17, free=("N",)):
    """``feeds``: input name -> sample; its first axes are called as in ``free``. ``outputs``: names."""
    entries = [
        helper.make_tensor_value_info(name, _TYPES[value.dtype.name], [*free[: value.ndim], *value.shape[len(free) :]])
        for name, value in feeds.items()
    ]
    exits = [onnx.ValueInfoProto(name=name) for name in outputs]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "small", entries, exits, stored)
    versions = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8 if opset < 20 else 10)
    typed = onnx.shape_inference.infer_shapes(model)
    for item in typed.graph.output:
        if not item.type.tensor_type.elem_type:
            item.type.tensor_type.elem_type = TensorProto.FLOAT
    return typed


def single(op, feeds, constants=None, *, opset=17, free=("N",), outputs=("y",), order=None, **attributes):
    """A model of one node that reads ``order`` (feeds, then constants)."""
    names = order if order is not None else [*feeds, *(constants or {})]
    node = helper.make_node(op, names, list(outputs), name=op.lower(), **attributes)
    return model_of([node], feeds, [name for name in outputs if name], constants, opset=opset, free=free)


def hold(model, feeds, *, rtol=1e-4, atol=2e-6):
    """Import, compare both ways with onnxruntime, write twice; returns what was imported and what was written."""
    imported = to_torch(model)
    check_parity(model, imported, feeds, rtol=rtol, atol=atol)
    written = to_onnx(imported, model)
    if all(item.type.tensor_type.HasField("shape") for item in model.graph.output):
        onnx.checker.check_model(written, full_check=True)
    assert written.SerializeToString() == to_onnx(to_torch(model), model).SerializeToString()
    assert list(written.graph.input) == list(model.graph.input)
    assert list(written.graph.output) == list(model.graph.output)
    return imported, written
