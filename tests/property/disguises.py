"""Odd forms that files of one and the same network come in: each changes how the model is written, none what it computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_compress.graph.walk import nodes_within, subgraphs
from tests.property.building import Network

Disguise = Callable[[onnx.ModelProto], None]


def listed(model: onnx.ModelProto) -> None:
    """Every initializer is an input too, as exporters wrote before IR version 4: a default that a caller could override."""
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def nameless(model: onnx.ModelProto) -> None:
    """No node has a name."""
    for node in nodes_within(model.graph.node):
        node.ClearField("name")


def alike(model: onnx.ModelProto) -> None:
    """Every node has the name of a tensor that another one makes."""
    nodes = list(nodes_within(model.graph.node))
    for node, other in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.name = other.output[0]


def strange(model: onnx.ModelProto) -> None:
    """Names hold what file systems, YAML and regular expressions stumble over."""
    public = {item.name for item in (*model.graph.input, *model.graph.output)}
    _rename(model.graph, public, {})


def _rename(graph: onnx.GraphProto, public: set[str], known: dict[str, str]) -> None:
    def new(name: str) -> str:
        return name if not name or name in public else known.setdefault(name, f"/ä {len(known)}:0 [{{*}}] 'q\"")

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new(value.name)
    for node in graph.node:
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for inner in subgraphs(node):
            _rename(inner, public, known)


def spelled_out(model: onnx.ModelProto) -> None:
    """Weights as lists of numbers instead of raw bytes."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values.flatten().tolist()))


def cluttered(model: onnx.ModelProto) -> None:
    """Weights that nobody uses, a dead branch, notes and metadata."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.ones((4, 4), np.float32), "unused"))
    graph.node.append(helper.make_node("Relu", [graph.input[0].name], ["dead"]))
    if graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        graph.node[-1].op_type = "Identity"
    graph.doc_string = model.doc_string = "notes"
    model.metadata_props.add(key="author", value="somebody")


def echoing(model: onnx.ModelProto) -> None:
    """One more output that is an input as it is."""
    first = model.graph.input[0]
    model.graph.node.append(helper.make_node("Identity", [first.name], ["echo"]))
    model.graph.output.add().CopyFrom(first)
    model.graph.output[-1].name = "echo"


def in_functions(model: onnx.ModelProto) -> None:
    """Every Relu is a call of a function that the model brings along."""
    relus = [node for node in model.graph.node if node.op_type == "Relu"]
    if not relus or model.opset_import[0].version < 15:
        return
    inner = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("local", "Act", ["a"], ["b"], [inner], [model.opset_import[0]]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.ir_version = max(model.ir_version, 8)
    for node in relus:
        node.op_type, node.domain = "Act", "local"


DISGUISES: dict[str, Disguise] = {
    item.__name__: item for item in (listed, nameless, alike, strange, spelled_out, cluttered, echoing, in_functions)
}


def disguised(network: Network, name: str) -> Network:
    """The same network, written in that odd form; "" leaves it as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    if name:
        DISGUISES[name](model)
    return Network(model, network.samples)


def fixed(network: Network, batch: int) -> Network:
    """The same network for ``batch`` samples at a time and no other number."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    for item in (*model.graph.input, *model.graph.output):
        if item.type.tensor_type.shape.dim and item.type.tensor_type.shape.dim[0].dim_param == "N":
            item.type.tensor_type.shape.dim[0].dim_value = batch
    return Network(model, network.samples)
