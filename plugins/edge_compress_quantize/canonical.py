"""Brings any float model to the one form the quantisers read: constants as initializers, batch norms folded, opset 13 or newer.

The runtime's own BASIC optimisation does the folding, so that what is quantised is what the runtime would have run. The interface
(names, types and free axes of inputs and outputs) is put back exactly. Leaves finer graph rewriting to ``graph.optimize``.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import version_converter

from edge_compress.graph.walk import nodes_within
from edge_compress_quantize.wiring import Names, attribute, replace

OLDEST_OPSET = 13
"""the first with per-channel DequantizeLinear"""
_OLDEST_IR = 7
_STANDARD = ("", "ai.onnx")


def canonical(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """A new model that computes the same. Raises ValueError when its opset cannot be raised to 13."""
    lifted = _at_least_opset_13(model)
    fold_file = scratch / "folded.onnx"
    options = quiet_options(threads=1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(fold_file)
    ort.InferenceSession(_without_overridable(lifted).SerializeToString(), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(fold_file)
    fold_file.unlink()
    _constants_to_initializers(folded.graph)
    _computed_biases_apart(folded.graph)
    restore_interface(folded, model)
    return folded


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators a model uses."""
    return next((item.version for item in model.opset_import if item.domain in _STANDARD), 1)


def quiet_options(threads: int) -> ort.SessionOptions:
    """Session options for a child process: errors only, no spinning."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def restore_interface(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Give a derived model the inputs, outputs and description of its original, and only the operator sets it uses."""
    constants = {item.name for item in original.graph.initializer}
    replace(model.graph.input, [item for item in original.graph.input if item.name not in constants])
    replace(model.graph.output, list(original.graph.output))
    del model.graph.value_info[:]
    model.graph.name = original.graph.name
    model.doc_string = original.doc_string
    replace(model.metadata_props, list(original.metadata_props))
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    model.ir_version = max(original.ir_version, _OLDEST_IR)
    used = {"" if node.domain in _STANDARD else node.domain for node in nodes_within(model.graph.node)} | {""}
    replace(model.opset_import, [item for item in model.opset_import if item.domain in used])


def _at_least_opset_13(model: onnx.ModelProto) -> onnx.ModelProto:
    if opset_of(model) >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # the converter raises RuntimeError, ConvertError and others, all with the reason as text
        raise ValueError(f"the model uses opset {opset_of(model)}, which cannot be raised to {OLDEST_OPSET}: {error}") from error


def _without_overridable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Initializers that are also inputs may be overridden by a caller, so the runtime would not fold them; ours are fixed."""
    constants = {item.name for item in model.graph.initializer}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    replace(copy.graph.input, [item for item in copy.graph.input if item.name not in constants])
    copy.ir_version = max(copy.ir_version, _OLDEST_IR)
    return copy


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = next((item for item in node.attribute if item.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    replace(graph.node, kept)


def _computed_biases_apart(graph: onnx.GraphProto) -> None:
    """The runtime merges MatMul and Add into Gemm even where what is added is computed (a shortcut, say); no integer kernel takes
    that, and the product alone does."""
    constants = {item.name for item in graph.initializer}
    names = Names(graph)
    nodes = []
    for node in graph.node:
        computed = node.op_type == "Gemm" and len(node.input) == 3 and node.input[2] not in {"", *constants}
        if not computed or attribute(node, "beta", 1.0) != 1.0:
            nodes.append(node)
            continue
        product = onnx.NodeProto()
        product.CopyFrom(node)
        product.input[:], product.output[:] = list(node.input)[:2], [names.fresh("g")]
        title = names.fresh("a") if node.name else ""
        nodes += [product, onnx.helper.make_node("Add", [product.output[0], node.input[2]], list(node.output), name=title)]
    replace(graph.node, nodes)
