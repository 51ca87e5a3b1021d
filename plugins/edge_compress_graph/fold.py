"""Folds a graph with onnxruntime's own basic optimisation, and puts the model's interface back as it was.

The runtime that devices run is the one library that reads every opset it supports, and its basic level writes standard operators
only; onnxslim gives the same graphs on our models but is one more dependency, slower, and trails new opsets.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from edge_compress.graph.tidy import tidied
from edge_compress.graph.walk import nodes_within

_STANDARD = ("", "ai.onnx")


def fold(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """A folded copy; the model itself, tidied, where folding would add operators of other domains or make it larger."""
    plain = tidied(model)
    folded = _optimized(plain, scratch / "folded.onnx")
    _restore_interface(folded, plain)
    if _domains(folded) - _domains(plain) or folded.ByteSize() > plain.ByteSize() * 1.01:
        return plain
    return folded


def _optimized(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folded = tidied(onnx.load(path))
    path.unlink()
    return folded


def _restore_interface(folded: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Names and free axes are the user's; the runtime renames axes and adds every operator set it knows."""
    for field in ("input", "output", "metadata_props"):
        folded.graph.ClearField(field)
        getattr(folded.graph, field).extend(getattr(original.graph, field))
    folded.graph.ClearField("value_info")
    folded.graph.name = original.graph.name
    folded.ir_version = original.ir_version
    used = _domains(folded)
    kept = [item for item in folded.opset_import if _plain(item.domain) in used]
    folded.ClearField("opset_import")
    folded.opset_import.extend(sorted(kept, key=lambda item: item.domain))


def _domains(model: onnx.ModelProto) -> set[str]:
    return {_plain(node.domain) for node in nodes_within(model.graph.node)} | {""}


def _plain(domain: str) -> str:
    return "" if domain in _STANDARD else domain
