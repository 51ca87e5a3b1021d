"""Holds a module, and what is written of it, to the answers of the model it came from, on real samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.export import export
from edge_compress.graph.bridge.importer import Imported

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Parity:
    """The largest differences, as a fraction of the largest magnitude of the output."""

    imported: float
    """module against the model"""
    exported: float
    """what is written of the module against the model"""


def hold(model: onnx.ModelProto, module: Imported | nn.Module, feeds: Mapping[str, Array], *, rtol: float, atol: float) -> Parity:
    """See ``edge_compress.graph.bridge.check_parity``."""
    names = [item.name for item in model.graph.output]
    want = run_onnx(model, feeds)
    imported = _compare("the module", names, want, run_torch(module, model, feeds), rtol, atol)
    exported = _compare("what is written of it", names, want, run_onnx(export(module, model), feeds), rtol, atol)
    return Parity(imported, exported)


def run_onnx(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs by onnxruntime, without graph optimisations, one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(item) for item in session.run(None, dict(feeds))]


def run_torch(module: Imported | nn.Module, model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of the module in eval mode; it is left as it was."""
    inner = module.module if isinstance(module, Imported) else module
    was_training = inner.training
    stored = {item.name for item in model.graph.initializer}
    inputs = [torch.from_numpy(np.array(feeds[item.name])) for item in model.graph.input if item.name not in stored]
    inner.eval()
    try:
        with torch.no_grad():
            made = inner(*inputs)
    finally:
        inner.train(was_training)
    return [item.numpy() for item in (made if isinstance(made, (tuple, list)) else (made,))]


def _compare(who: str, names: list[str], want: list[Array], got: list[Array], rtol: float, atol: float) -> float:
    worst = 0.0
    for name, expected, found in zip(names, want, got, strict=True):
        if expected.shape != found.shape:
            raise Unsupported(f"{who} gives output {name!r} the shape {found.shape}, expected {expected.shape}")
        size = float(np.abs(expected).max(initial=0.0)) or 1.0
        error = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        if not bool((error <= atol * size + rtol * np.abs(expected)).all()):
            raise Unsupported(f"{who} differs in output {name!r} by {float(error.max()) / size:.2g} of its largest magnitude")
        worst = max(worst, float(error.max(initial=0.0)) / size)
    return worst
