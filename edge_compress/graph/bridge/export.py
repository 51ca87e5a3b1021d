"""Any module as ONNX under another model's interface: graphs by ``writer``, others by torch's exporter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import fx, nn

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.arithmetic import torch_type
from edge_compress.graph.bridge.importer import Imported
from edge_compress.graph.bridge.values import assignments, blank, input_shape, symbols_of
from edge_compress.graph.bridge.writer import write
from edge_compress.graph.tidy import tidied

OPSET = 18
"""what torch's exporter writes natively"""


def export(module: Imported | nn.Module, like: onnx.ModelProto) -> onnx.ModelProto:
    """See ``edge_compress.graph.bridge.to_onnx``."""
    inner = module.module if isinstance(module, Imported) else module
    if isinstance(inner, fx.GraphModule):
        try:
            return write(inner, like)
        except Unsupported:
            if any("onnx" in node.meta for node in inner.graph.nodes):
                raise  # it was imported: there is no better way to write it
    return _traced(inner, like)


def _traced(module: nn.Module, like: onnx.ModelProto) -> onnx.ModelProto:
    """By torch.onnx.export. The module is left as it was."""
    stored = {item.name for item in like.graph.initializer}
    inputs = [item for item in like.graph.input if item.name not in stored]
    was_training = module.training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter deprecates its own insides
            program = torch.onnx.export(module.eval(), _feeds(inputs), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=[item.name for item in inputs], output_names=[item.name for item in like.graph.output],
                dynamic_shapes=_free_axes(inputs))  # fmt: skip
    except Exception as error:  # the exporter raises its own, torch's and onnxscript's errors
        raise Unsupported(f"torch's exporter cannot write {type(module).__name__}: {_first_line(error)}") from error
    finally:
        module.train(was_training)
    assert program is not None
    return _dressed(program.model_proto, inputs, like)


def _feeds(inputs: Sequence[onnx.ValueInfoProto]) -> tuple[torch.Tensor, ...]:
    sizes = assignments(symbols_of(inputs, (64, 96), free_batch=False))[0]
    return tuple(
        blank(input_shape(item, index, sizes), torch_type(item.type.tensor_type.elem_type)).clone()
        for index, item in enumerate(inputs)
    )


def _free_axes(inputs: Sequence[onnx.ValueInfoProto]) -> tuple[dict[int, Any], ...]:
    """The free axes of each input by name, the batch under one name for all."""
    return tuple(
        {
            axis: torch.export.Dim.DYNAMIC
            for axis, dim in enumerate(item.type.tensor_type.shape.dim)
            if not dim.HasField("dim_value")
        }
        for item in inputs
    )


def _dressed(made: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], like: onnx.ModelProto) -> onnx.ModelProto:
    """The made graph under the original's interface, without the exporter's notes on source files."""
    model = tidied(made)
    graph = model.graph
    names = [item.name for item in graph.input], [item.name for item in graph.output]
    wanted = [item.name for item in inputs], [item.name for item in like.graph.output]
    if names != wanted:
        raise Unsupported(f"torch's exporter made inputs and outputs {names}, expected {wanted}")
    del graph.input[:], graph.output[:], graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    graph.input.extend(inputs)
    graph.output.extend(like.graph.output)
    graph.name = like.graph.name or "g"
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    model.metadata_props.extend(like.metadata_props)
    model.producer_name = like.producer_name
    model.producer_version = ""
    return model


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
