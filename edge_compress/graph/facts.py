"""What a model is and costs: interface, operators, arithmetic, weights and activations, for a batch of one.

Counting is split over ``shapes`` (how large each tensor is), ``macs`` (arithmetic of one node) and ``liveness`` (activations
held at once). Facts that do not follow from the file are zero; only a model that is no model is an error.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edge_compress.domain.model import LayerFacts, ModelFacts, TensorFacts
from edge_compress.graph.check import MAX_MODEL_BYTES, load_checked
from edge_compress.graph.liveness import peak_bytes
from edge_compress.graph.macs import node_macs
from edge_compress.graph.shapes import TensorType, constant_tensor, tensor_types
from edge_compress.graph.tensors import BITS, stored_bytes
from edge_compress.graph.walk import nodes_within, subgraphs, tensors, uses

_STANDARD = ("", "ai.onnx")
_NO_PARAMETERS = (TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)
"""types of constants that steer shapes and flow and are learned by nobody"""
_CONTROL_FLOW = ("If", "Loop", "Scan")
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def facts_of(path: Path, max_bytes: int = MAX_MODEL_BYTES) -> ModelFacts:
    """Facts of an uploaded model. Raises InvalidModel and TooLarge as ``load_checked`` does."""
    model = load_checked(path, max_bytes)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return facts_of_model(model, digest, path.stat().st_size)


def facts_of_model(model: onnx.ModelProto, sha256: str, size: int) -> ModelFacts:
    """Facts of a model already checked, whose file has this digest and this many bytes."""
    graph = model.graph
    constants = _constants(graph)
    types = tensor_types(model)
    ops = Counter(node.op_type for node in nodes_within(graph.node))
    inputs = tuple(_interface(item) for item in graph.input if item.name not in constants)
    outputs = tuple(_interface(item) for item in graph.output)
    weights = _used_constants(graph, constants)
    return ModelFacts(
        sha256=sha256,
        bytes=size,
        opset=next((item.version for item in model.opset_import if item.domain in _STANDARD), 0),
        inputs=inputs,
        outputs=outputs,
        ops=dict(sorted(ops.items())),
        layers=_layers(graph, constants, types),
        parameters=sum(item.parameters for item in weights),
        weight_bytes=sum(item.bytes for item in weights),
        weight_dtypes=_bytes_by_dtype(weights),
        peak_activation_bytes=_peak(graph, constants, types),
        batch_free=_batch_free(inputs, outputs),
        control_flow=any(op in ops for op in _CONTROL_FLOW),
        custom_domains=tuple(sorted({node.domain for node in nodes_within(graph.node)} - set(_STANDARD))),
    )


@dataclass(frozen=True)
class _Constant:
    """One stored tensor."""

    dtype: str
    bytes: int
    parameters: int


def _constant(tensor: TensorProto) -> _Constant:
    learned = tensor.data_type not in _NO_PARAMETERS and len(tensor.dims) > 0
    return _Constant(_dtype_name(tensor.data_type), stored_bytes(tensor), math.prod(tensor.dims) if learned else 0)


def _constants(graph: onnx.GraphProto) -> dict[str, _Constant]:
    found = {item.name: _constant(item) for item in graph.initializer}
    for node in graph.node:
        tensor = constant_tensor(node)
        if tensor is not None:
            found[node.output[0]] = _constant(tensor)
    return {**found, **_packed_weights(graph, found)}


def _packed_weights(graph: onnx.GraphProto, constants: dict[str, _Constant]) -> dict[str, _Constant]:
    """Weights that lie several to a byte, with as many parameters as they stand for; their scales stand for none."""
    found = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits" and len(node.input) > 1 and node.input[1] in constants:
            said = {item.name: item.i for item in node.attribute}
            weight = constants[node.input[1]]
            most = 8 * weight.bytes // max(1, said.get("bits", 4))
            count = max(0, min(most, said.get("K", 0) * said.get("N", 0)))
            found[node.input[1]] = replace(weight, parameters=count)
            found |= {name: replace(constants[name], parameters=0) for name in node.input[2:5] if name in constants}
    return found


def _used_constants(graph: onnx.GraphProto, constants: dict[str, _Constant]) -> list[_Constant]:
    names = {name for node in graph.node for name in uses(node)} | {item.name for item in graph.output}
    inner = [_constant(item) for node in graph.node for body in subgraphs(node) for item in tensors(body)]
    return [item for name, item in constants.items() if name in names] + inner


def _bytes_by_dtype(weights: Iterable[_Constant]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for item in weights:
        total[item.dtype] += item.bytes
    return dict(sorted(total.items()))


def _layers(graph: onnx.GraphProto, constants: dict[str, _Constant], types: dict[str, TensorType]) -> tuple[LayerFacts, ...]:
    """Nodes with arithmetic or parameters. A constant belongs to the first node that mixes it with an activation: what lies
    between (dequantising, transposing) is part of how the weight is stored."""
    roots: dict[str, tuple[str, ...]] = {name: (name,) for name in constants}
    counted: set[str] = set()
    layers = []
    for node in graph.node:
        if node.output[0] in constants:
            continue
        sources = [roots.get(name) for name in uses(node)]
        held = dict.fromkeys(root for source in sources if source for root in source)
        if sources and None not in sources and not any(True for _ in subgraphs(node)):
            roots |= {name: tuple(held) for name in node.output}
            continue
        own = [constants[name] for name in held if name not in counted]
        own += [_constant(item) for body in subgraphs(node) for item in tensors(body)]
        counted.update(held)
        layer = _layer(node, own, types)
        if layer.macs or (layer.weight_count and node.op_type not in _QUANTIZERS):
            layers.append(layer)
    return tuple(layers)


def _layer(node: onnx.NodeProto, weights: Sequence[_Constant], types: dict[str, TensorType]) -> LayerFacts:
    def shape_of(name: str) -> tuple[int, ...] | None:
        return types[name].shape if name in types else None

    return LayerFacts(
        name=node.name or node.output[0],
        op=node.op_type,
        macs=node_macs(node, shape_of),
        weight_bytes=sum(item.bytes for item in weights),
        weight_count=sum(item.parameters for item in weights),
        activation_bytes=sum((types[name].bytes or 0) if name in types else 0 for name in node.output),
    )


def _peak(graph: onnx.GraphProto, constants: dict[str, _Constant], types: dict[str, TensorType]) -> int:
    fixed = set(constants)
    for node in graph.node:  # what follows from constants alone is folded by runtimes and no activation
        if all(name in fixed for name in uses(node)):
            fixed.update(node.output)

    def bytes_of(name: str) -> int | None:
        if name in fixed:
            return 0
        return types[name].bytes if name in types else None

    inputs = [item.name for item in graph.input if item.name not in constants]
    return peak_bytes(graph.node, inputs, [item.name for item in graph.output], bytes_of)


def _interface(item: onnx.ValueInfoProto) -> TensorFacts:
    kind = item.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in kind.shape.dim)
    return TensorFacts(item.name, _dtype_name(kind.elem_type), shape)


def _dtype_name(elem_type: int) -> str:
    if elem_type == TensorProto.STRING:
        return "object"
    return helper.tensor_dtype_to_np_dtype(elem_type).name if elem_type in BITS else ""


def _batch_free(inputs: Sequence[TensorFacts], outputs: Sequence[TensorFacts]) -> bool:
    """Every input takes any number of samples, and no output says that it gives a fixed number of rows."""
    takes = all(item.shape and not isinstance(item.shape[0], int) for item in inputs)
    return takes and not any(item.shape and isinstance(item.shape[0], int) for item in outputs)
