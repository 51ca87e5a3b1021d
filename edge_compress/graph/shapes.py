"""Shapes and types of every tensor for a batch of one, as far as they follow from the graph.

onnx's inference stops where a shape is computed by nodes (Shape, Gather, Concat, …), as exporters do; so that arithmetic is
done here on small constants only, and inference runs again until nothing new follows. Weights never take part: a model of
gigabytes costs no more than its skeleton. What cannot be known is absent, never an error.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_compress.graph.contrib import stand_in
from edge_compress.graph.tensors import BITS, element_count

SMALL = 1024
"""elements of the largest constant that counts as shape arithmetic"""
MAX_ROUNDS = 64

_GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range"})
_FOLDED_NAMES = (
    "Shape Size Gather Slice Concat Unsqueeze Squeeze Cast Reshape Transpose Identity Add Sub Mul Div Mod Neg Abs Min Max Floor "
    "Ceil Equal Less Greater Not And Or Where ReduceProd ReduceSum ReduceMin ReduceMax"
)
_FOLDED = _GROWING | frozenset(_FOLDED_NAMES.split())

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TensorType:
    """Element type (ONNX number) and dims, None where an axis is unknown; ``dims`` None: not even the rank is known."""

    elem_type: int
    dims: tuple[int | None, ...] | None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The dims, or None unless all are known."""
        return None if self.dims is None or None in self.dims else tuple(axis or 0 for axis in self.dims)

    @property
    def bytes(self) -> int | None:
        """Bytes of the tensor, or None when its shape is unknown."""
        return None if self.shape is None else -(-math.prod(self.shape) * BITS.get(self.elem_type, 0) // 8)


def tensor_types(model: onnx.ModelProto) -> dict[str, TensorType]:
    """Type of each tensor of the main graph by name, constants included, for a batch of one where the batch is free."""
    skeleton, types = _skeleton(model)
    known = {item.name: numpy_helper.to_array(item) for item in skeleton.graph.initializer}
    for _ in range(MAX_ROUNDS):
        types |= _inferred(skeleton)
        found = _fold(skeleton, known, types)
        if not found:
            break
        known |= found
        _replace(skeleton.graph, found)
    return types


def _skeleton(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, TensorType]]:
    """The model with a batch of one and its larger constants turned into inputs, and the types of all its constants."""
    source = model.graph
    skeleton = onnx.ModelProto(ir_version=max(model.ir_version, 8))
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    skeleton.graph.name = source.name or "g"
    constants = {item.name: item for item in source.initializer}
    matrices = {name for name, tensor in constants.items() if len(tensor.dims) == 2}
    for node in source.node:
        value = constant_tensor(node)
        if value is None:
            _add_node(skeleton.graph, node, matrices)
        else:
            constants[node.output[0]] = value
    skeleton.graph.input.extend(_batch_of_one(item) for item in source.input if item.name not in constants)
    for name, tensor in constants.items():
        _add_constant(skeleton.graph, name, tensor)
    for item in source.output:
        skeleton.graph.output.append(helper.make_tensor_value_info(item.name, item.type.tensor_type.elem_type, None))
    return skeleton, {name: TensorType(item.data_type, tuple(item.dims)) for name, item in constants.items()}


def constant_tensor(node: onnx.NodeProto) -> TensorProto | None:
    """The tensor a Constant node holds, unnamed; None for any other node, strings and sparse tensors."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    match attribute.name:
        case "value":
            return attribute.t
        case "value_float" | "value_floats":
            one = attribute.name == "value_float"
            return _tensor(TensorProto.FLOAT, [attribute.f] if one else list(attribute.floats), one)
        case "value_int" | "value_ints":
            one = attribute.name == "value_int"
            return _tensor(TensorProto.INT64, [attribute.i] if one else list(attribute.ints), one)
    return None


def _add_node(graph: onnx.GraphProto, node: onnx.NodeProto, matrices: Collection[str]) -> None:
    """The node, or what has its shapes in standard operators."""
    other = stand_in(node, matrices)
    graph.node.extend([node] if other is None else other.nodes)
    graph.input.extend(() if other is None else other.inputs)


def _tensor(kind: int, values: Sequence[float], scalar: bool) -> TensorProto:
    return helper.make_tensor("", kind, [] if scalar else [len(values)], values)


def _batch_of_one(item: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    fixed = onnx.ValueInfoProto()
    fixed.CopyFrom(item)
    dims = fixed.type.tensor_type.shape.dim
    if dims and not dims[0].HasField("dim_value"):
        dims[0].dim_value = 1
    return fixed


def _add_constant(graph: onnx.GraphProto, name: str, tensor: TensorProto) -> None:
    if element_count(tensor) <= SMALL and tensor.data_type in BITS:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = name
    else:
        graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))


def _inferred(skeleton: onnx.ModelProto) -> dict[str, TensorType]:
    try:
        graph = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
    except Exception:  # whatever inference dislikes, the runtime may still run: its shapes are simply unknown
        return {}
    values = (*graph.input, *graph.value_info, *graph.output)
    return {item.name: _type_of(item) for item in values if item.type.HasField("tensor_type")}


def _type_of(item: onnx.ValueInfoProto) -> TensorType:
    kind = item.type.tensor_type
    if not kind.HasField("shape"):
        return TensorType(kind.elem_type, None)
    return TensorType(kind.elem_type, tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim))


def _fold(skeleton: onnx.ModelProto, known: Mapping[str, Array], types: Mapping[str, TensorType]) -> dict[str, Array]:
    """Values of small tensors that follow from known ones."""
    opsets = {item.domain: item.version for item in skeleton.opset_import}
    found: dict[str, Array] = {}
    for node in skeleton.graph.node:
        value = _value_of(node, {**known, **found} if found else known, types, opsets)
        if value is not None and value.size <= SMALL:
            found[node.output[0]] = value
    return found


def _value_of(
    node: onnx.NodeProto, known: Mapping[str, Array], types: Mapping[str, TensorType], opsets: dict[str, int]
) -> Array | None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in _FOLDED:
        return None
    if node.op_type == "Shape" and node.input[0] not in known:
        return _shape_value(node, types.get(node.input[0]))
    inputs = {name: known[name] for name in node.input if name in known}
    if len(inputs) != len({name for name in node.input if name}) or _grows(node, inputs):
        return None
    try:
        outputs: list[Any] = ReferenceEvaluator(_alone(node, inputs, opsets)).run(None, dict(inputs))  # type: ignore[assignment]  # typed as if outputs came by name
    except Exception:  # what cannot be computed stays unknown
        return None
    return np.asarray(outputs[0])


def _shape_value(node: onnx.NodeProto, kind: TensorType | None) -> Array | None:
    if kind is None or kind.shape is None:
        return None
    limits = {item.name: item.i for item in node.attribute}
    return np.asarray(kind.shape[limits.get("start", 0) : limits.get("end", len(kind.shape))], np.int64)


def _grows(node: onnx.NodeProto, inputs: Mapping[str, Array]) -> bool:
    """Whether the output could be far larger than the inputs."""
    if node.op_type not in _GROWING:
        return False
    if node.op_type == "Range":
        start, limit, delta = (float(inputs[name].ravel()[0]) for name in node.input)
        return delta == 0 or abs((limit - start) / delta) > SMALL
    sizes = inputs[node.input[-1]].ravel().tolist()
    return any(size < 0 for size in sizes) or math.prod(sizes) * (inputs[node.input[0]].size or 1) > SMALL**2


def _alone(node: onnx.NodeProto, inputs: Mapping[str, Array], opsets: dict[str, int]) -> onnx.ModelProto:
    types = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    graph = helper.make_graph([node], "g", types, [onnx.ValueInfoProto(name=node.output[0])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*item) for item in opsets.items()])


def _replace(graph: onnx.GraphProto, found: Mapping[str, Array]) -> None:
    kept = [node for node in graph.node if node.output[0] not in found]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in found.items())
