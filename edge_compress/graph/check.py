"""Reads an uploaded model that nobody vouches for: what comes back is a whole, self-contained ONNX graph a runtime can take.

Everything that could make a later reader allocate without bound, follow a path or never end is refused here with one line
that says what was read and what was expected. What the model costs is left to ``facts``, files beside a model to ``external``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edge_compress.errors import InvalidModel, TooLarge
from edge_compress.graph.external import inline_external_data
from edge_compress.graph.tensors import check_tensor
from edge_compress.graph.text import check_text
from edge_compress.graph.walk import node_tensors, nodes_within, subgraphs, tensors

__all__ = ["MAX_MODEL_BYTES", "inline_external_data", "load_checked", "parse_checked"]

MAX_MODEL_BYTES = 2**31 - 1
"""largest file protobuf reads"""
MIN_OPSET = 9
MAX_OPSET = onnx.defs.onnx_opset_version()
MAX_SUBGRAPH_DEPTH = 8
MAX_CALLS = 64
"""local functions that call each other"""
MAX_NODES = 1_000_000
"""nodes of a model with every local function written out where it is called"""


def load_checked(path: Path, max_bytes: int = MAX_MODEL_BYTES) -> onnx.ModelProto:
    """The model in a file, which the caller names in errors. Raises TooLarge over ``max_bytes`` bytes, InvalidModel for anything
    a runtime could not take."""
    size = path.stat().st_size
    if size > max_bytes:
        raise TooLarge(f"read {size} bytes, expected at most {max_bytes}")
    return parse_checked(path.read_bytes())


def parse_checked(data: bytes) -> onnx.ModelProto:
    """The model in ``data``. Raises InvalidModel."""
    model = _parse(data)
    check_text(model)
    _check_opset(model)
    _check_depth(model)
    _check_functions(model)
    _check_tensors(model)
    _check_interface(model.graph)
    _check_names(model.graph)
    try:
        onnx.checker.check_model(data, full_check=True)
    except Exception as error:  # the checker raises its own, the shape inference's and protobuf's errors
        raise InvalidModel(f"breaks the ONNX rules: {_first_line(error)}") from error
    return model


def _parse(data: bytes) -> onnx.ModelProto:
    if not data:
        raise InvalidModel("read an empty file, expected an ONNX model")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise InvalidModel("read bytes that are not an ONNX model, or only part of one; export it again") from error
    if not model.HasField("graph") or not model.graph.node or not model.opset_import:
        raise InvalidModel("read a file without a graph, nodes or opset, expected an ONNX model")
    return model


def _check_opset(model: onnx.ModelProto) -> None:
    if model.ir_version > onnx.IR_VERSION:
        raise InvalidModel(f"read IR version {model.ir_version}, expected at most {onnx.IR_VERSION}; export for an older one")
    versions = {item.domain: item.version for item in model.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None:
        raise InvalidModel("read no opset for the standard operators (ai.onnx), expected one")
    if not MIN_OPSET <= version <= MAX_OPSET:
        raise InvalidModel(f"read opset {version}, expected {MIN_OPSET} to {MAX_OPSET}; export for one of these")


def _check_depth(model: onnx.ModelProto) -> None:
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        level = list(nodes)
        for _ in range(MAX_SUBGRAPH_DEPTH + 1):
            level = [inner for node in level for body in subgraphs(node) for inner in body.node]
        if level:
            raise InvalidModel(f"read control flow nested more than {MAX_SUBGRAPH_DEPTH} deep, expected less")


def _check_functions(model: onnx.ModelProto) -> None:
    """Written out, local functions must end and must not explode (f1 calls f2 twice, f2 calls f3 twice, …)."""
    bodies = {(item.domain, item.name): item.node for item in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    for key in bodies:
        _function_size(key, bodies, sizes, ())
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in nodes_within(model.graph.node))
    if total > MAX_NODES:
        raise InvalidModel(f"read {total} nodes with functions written out, expected at most {MAX_NODES}")


def _function_size(
    key: tuple[str, str],
    bodies: Mapping[tuple[str, str], Sequence[onnx.NodeProto]],
    sizes: dict[tuple[str, str], int],
    callers: tuple[object, ...],
) -> int:
    if key in callers or len(callers) > MAX_CALLS:
        raise InvalidModel(f"function {key[1]!r} calls itself or is called too deep, expected at most {MAX_CALLS} levels")
    if key not in sizes:
        inner = ((node.domain, node.op_type) for node in nodes_within(bodies[key]))
        sizes[key] = sum(_function_size(name, bodies, sizes, (*callers, key)) if name in bodies else 1 for name in inner)
    return sizes[key]


def _check_tensors(model: onnx.ModelProto) -> None:
    for tensor in itertools.chain(tensors(model.graph), *(node_tensors(function.node) for function in model.functions)):
        check_tensor(tensor)


def _check_interface(graph: onnx.GraphProto) -> None:
    defaults = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in defaults]
    for what, items in (("inputs", inputs), ("outputs", graph.output)):
        if not items:
            raise InvalidModel(f"read a graph without {what}, expected at least one")
        for item in items:
            _check_value(item, what[:-1])


def _check_value(item: onnx.ValueInfoProto, what: str) -> None:
    kind = item.type.WhichOneof("value")
    if kind != "tensor_type" or item.type.tensor_type.elem_type == onnx.TensorProto.UNDEFINED:
        raise InvalidModel(f"{what} {item.name!r}: read {kind or 'no type'}, expected a tensor of a known type")
    if not item.type.tensor_type.HasField("shape"):
        raise InvalidModel(f"{what} {item.name!r}: read no shape, expected one (axes may be free); onnx.shape_inference finds it")
    for axis in item.type.tensor_type.shape.dim:
        if axis.HasField("dim_value") and not 0 <= axis.dim_value < 2**31:
            raise InvalidModel(f"{what} {item.name!r}: read an axis of {axis.dim_value}, expected 0 to {2**31 - 1}")


def _check_names(graph: onnx.GraphProto) -> None:
    defaults = [item.name for item in graph.initializer]
    inputs = [item.name for item in graph.input if item.name not in set(defaults)]
    made = [name for node in graph.node for name in node.output if name]
    seen: set[str] = set()
    for name in (*inputs, *defaults, *made):
        if name in seen:
            raise InvalidModel(f"the name {name!r} is given to two tensors, expected each once")
        seen.add(name)
    for item in graph.output:
        if item.name not in seen:
            raise InvalidModel(f"output {item.name!r} is made by no node")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
