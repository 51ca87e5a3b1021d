"""Runs two models on the same inputs and refuses a difference beyond float rounding."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from edge_compress.plugin import Context

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""an output may differ by this share of itself, plus this share of the largest output"""

Feed = Mapping[str, np.ndarray[Any, Any]]


def refuse_difference(before: onnx.ModelProto, after: onnx.ModelProto, context: Context, count: int) -> None:
    """Raise ValueError naming the first output that differs: on calibration samples, or on seeded noise where there are none.

    A model that cannot run on noise (its free axes must fit each other, say) is not compared, and the log says so.
    """
    old, new = _session(before), _session(after)
    names = [item.name for item in before.graph.output]
    for feed in _real(context, count) or [_noise(before, context.seed)]:
        try:
            wanted = old.run(None, dict(feed))
        except Exception as error:  # onnxruntime raises a class of its own for each status
            context.log(f"outputs were not compared: {str(error).splitlines()[0]}")
            return
        for name, want, got in zip(names, wanted, new.run(None, dict(feed)), strict=True):
            _refuse(name, np.asarray(want), np.asarray(got))


def _real(context: Context, count: int) -> list[Feed]:
    try:
        return [batch.inputs for batch in itertools.islice(context.calibration(1, count), count)]
    except Exception:  # a job without calibration data is no error here
        return []


def _refuse(name: str, want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> None:
    if want.dtype.kind != "f":
        if not np.array_equal(want, got):
            raise ValueError(f"output {name!r} is not what it was")
        return
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    if not np.allclose(got, want, rtol=RELATIVE, atol=ABSOLUTE * max(largest, 1e-6), equal_nan=True):
        worst = float(np.nanmax(np.abs(got - want)))
        raise ValueError(f"output {name!r} differs by {worst:.3g} where the largest is {largest:.3g}")


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _noise(model: onnx.ModelProto, seed: int) -> Feed:
    """Standard normal floats and zeros for everything else, free axes of length one."""
    draw = np.random.default_rng(seed)
    constants = {item.name for item in model.graph.initializer}
    feed = {}
    for item in model.graph.input:
        if item.name in constants:
            continue
        kind = item.type.tensor_type
        shape = [axis.dim_value if axis.HasField("dim_value") else 1 for axis in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feed[item.name] = (draw.standard_normal(shape) if dtype.kind == "f" else np.zeros(shape)).astype(dtype)
    return feed
