"""The original as a teacher: its answers to any inputs, by onnxruntime. What is learnt from them is left to ``training``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


class Teacher:
    """A model that is asked and never changed. ``maps``: names of inner tensors to tell beside the outputs."""

    def __init__(self, model: onnx.ModelProto, *, threads: int = 1, maps: Sequence[str] = ()) -> None:
        stored = {item.name for item in model.graph.initializer}
        self.inputs = tuple(item.name for item in model.graph.input if item.name not in stored)
        self.outputs = tuple(item.name for item in model.graph.output)
        self.maps = tuple(maps)
        self._session = _session(model, threads, [name for name in maps if name not in self.outputs])

    def answer(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The outputs in order, and the inner maps by name. ``inputs``: in the model's order."""
        feeds = {name: np.ascontiguousarray(item.numpy()) for name, item in zip(self.inputs, inputs, strict=True)}
        made = [torch.from_numpy(np.array(item)) for item in self._session.run([*self.outputs, *self.maps], feeds)]
        return made[: len(self.outputs)], dict(zip(self.maps, made[len(self.outputs) :], strict=True))

    def tensors(self, inputs: Mapping[str, Array]) -> list[Tensor]:
        """A batch's inputs in the model's order."""
        return [torch.from_numpy(np.array(inputs[name])) for name in self.inputs]


def _session(model: onnx.ModelProto, threads: int, extra: Sequence[str]) -> onnxruntime.InferenceSession:
    """Raises ValueError that names a map the model does not have."""
    made = {name for node in model.graph.node for name in node.output}
    if unknown := next((name for name in extra if name not in made), None):
        raise ValueError(f"features: read {unknown!r}, expected the name of a tensor that a node of the model makes")
    told = onnx.ModelProto()
    told.CopyFrom(model)
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(told.SerializeToString(), options, providers=["CPUExecutionProvider"])
