"""Makes the smallest ONNX file that computes the same thing, the same bytes every time.

Only what no runtime reads is taken away and only names nobody outside sees are changed: inputs, outputs and their types stay.
Arithmetic is left alone; folding and fusing belong to ``graph.optimize``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import inliner, numpy_helper

from edge_compress.graph.walk import in_order, nodes_within, subgraphs, uses

OLDEST_IR = 8
"""the first files whose initializers need not be inputs too are of version 4; 8 is what the oldest runtimes we meet write"""

_CONSTANT_LISTS = {"value_float": "f", "value_int": "i", "value_floats": "floats", "value_ints": "ints"}
_DIGITS = "abcdefghijklmnopqrstuvwxyz"


def pack(model: onnx.ModelProto) -> bytes:
    """The bytes of the model, packed. The model given is not changed. Raises InvalidModel when its graph has a cycle."""
    packed = onnx.ModelProto()
    packed.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    graph = packed.graph
    _order(graph)
    _constants_to_initializers(graph)
    _drop_overridable(graph)
    _drop_dead_nodes(graph)
    _share_initializers(graph)
    _drop_unused_initializers(graph)
    _shorten_names(graph)
    _strip(packed)
    return packed.SerializeToString(deterministic=True)


def _order(graph: onnx.GraphProto) -> None:
    _replace_nodes(graph, in_order(list(graph.node)))


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """A tensor in an initializer can be shared; one in a Constant node cannot."""
    kept = []
    for node in graph.node:
        tensor = _constant_value(node)
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    _replace_nodes(graph, kept)


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        return tensor
    if attribute.name not in _CONSTANT_LISTS:
        return None
    value = getattr(attribute, _CONSTANT_LISTS[attribute.name])
    several = attribute.name.endswith("s")
    kind = onnx.TensorProto.FLOAT if "float" in attribute.name else onnx.TensorProto.INT64
    return onnx.helper.make_tensor("", kind, [len(value)] if several else [], value if several else [value])


def _drop_overridable(graph: onnx.GraphProto) -> None:
    """Initializers listed as inputs are defaults a caller could override; runtimes then cannot fold them, and nobody does."""
    defaults = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in defaults]
    del graph.input[:]
    graph.input.extend(inputs)


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    needed = {item.name for item in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(uses(node))
    _replace_nodes(graph, kept[::-1])


def _share_initializers(graph: onnx.GraphProto) -> None:
    outputs = {item.name for item in graph.output}
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        _to_raw(tensor)
        if tensor.data_type == onnx.TensorProto.STRING or tensor.name in outputs:
            continue
        holder = first.setdefault((tensor.data_type, tuple(tensor.dims), tensor.raw_data), tensor.name)
        if holder != tensor.name:
            same[tensor.name] = holder
    for node in nodes_within(graph.node):
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)


def _to_raw(tensor: onnx.TensorProto) -> None:
    if tensor.data_type != onnx.TensorProto.STRING and not tensor.HasField("raw_data"):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Keep what is used, in the order of first use, so that the order does not tell how the model was made."""
    held = {item.name: item for item in graph.initializer}
    wanted = itertools.chain((name for node in graph.node for name in uses(node)), (item.name for item in graph.output))
    kept = [onnx.TensorProto.FromString(held[name].SerializeToString()) for name in dict.fromkeys(wanted) if name in held]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _shorten_names(graph: onnx.GraphProto) -> None:
    """One injective renaming over all scopes, so that what was distinct or equal stays so; inputs and outputs keep theirs."""
    public = {item.name for item in (*graph.input, *graph.output)}
    fresh = (name for name in _short_names() if name not in public)
    _rename(graph, _NewNames({"": "", **{name: name for name in public}}, fresh))


@dataclass(frozen=True)
class _NewNames:
    """Old name -> new name, made up as they are asked for."""

    known: dict[str, str]
    fresh: Iterator[str]

    def __getitem__(self, old: str) -> str:
        if old not in self.known:
            self.known[old] = next(self.fresh)
        return self.known[old]


def _rename(graph: onnx.GraphProto, names: _NewNames) -> None:
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for sparse in graph.sparse_initializer:
        sparse.values.name = names[sparse.values.name]  # type: ignore[attr-defined]  # onnx's stub says Message
    for node in graph.node:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        for body in subgraphs(node):
            _rename(body, names)


def _short_names() -> Iterator[str]:
    for length in itertools.count(1):
        yield from ("".join(letters) for letters in itertools.product(_DIGITS, repeat=length))


def _strip(model: onnx.ModelProto) -> None:
    for field in (
        "producer_name",
        "producer_version",
        "domain",
        "model_version",
        "doc_string",
        "metadata_props",
        "training_info",
    ):
        model.ClearField(field)
    model.ir_version = max(model.ir_version, OLDEST_IR)
    _strip_graph(model.graph)
    used = {node.domain for node in nodes_within(model.graph.node)} | {""}
    kept = sorted((_domain(item.domain), item.version) for item in model.opset_import if _domain(item.domain) in used)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in kept)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.name = "g"
    for field in ("doc_string", "value_info", "quantization_annotation", "metadata_props"):
        graph.ClearField(field)
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for node in graph.node:
        _strip_node(node)
        for body in subgraphs(node):
            _strip_graph(body)


def _strip_node(node: onnx.NodeProto) -> None:
    node.domain = _domain(node.domain)
    if not node.domain:
        node.ClearField("domain")
    for field in ("name", "doc_string", "metadata_props"):
        node.ClearField(field)
    for attribute in node.attribute:
        attribute.ClearField("doc_string")
    node.attribute.sort(key=lambda item: item.name)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
