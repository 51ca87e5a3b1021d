"""Who teaches and with what: the teacher made free to answer many samples at once, and samples gathered into batches.

A model whose file fixes the batch is fed one sample at a time, and a fresh network learns nothing from a batch of one: its
statistics need company. So the fixed batch is taken off the teacher, where its arithmetic allows, and samples are put together.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from torch import Tensor

from edge_compress.graph.batch import Batch
from edge_compress.graph.bridge import to_onnx, to_torch
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.graph.bridge.training import Lender, Limit, held_out

_LOOKED_AT = 512
_AT_ONCE = 64
_COMPANY = 8
"""samples of a batch from which on its statistics mean something"""


class Classroom:
    """A ``Lender`` whose batches are full, and the teacher that takes them."""

    def __init__(self, context: Lender, teacher: onnx.ModelProto, macs: float) -> None:
        self._context, self.macs = context, macs
        self.seed = context.seed
        dim = teacher.graph.input[0].type.tensor_type.shape.dim[0]
        self.fixed = dim.dim_value if dim.HasField("dim_value") else 0
        """the batch that the user's file fixes; 0: free"""
        self.teacher = freed(teacher) if self.fixed else teacher
        ending = {name: node.op_type for node in teacher.graph.node for name in node.output}
        self.last = ending.get(teacher.graph.output[0].name, "")
        """the operator that the model ends in"""

    @property
    def limits(self) -> Limit:
        """What may be used."""
        return self._context.limits

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        """Samples in file order, ``batch_size`` at a time."""
        return self._gathered(self._context.calibration(batch_size, limit), batch_size)

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        """One shuffled pass, ``batch_size`` at a time; without a last batch too small to have statistics."""
        return _with_company(self._gathered(self._context.training(batch_size, epoch), batch_size))

    def seconds_left(self) -> float:
        """As the context."""
        return self._context.seconds_left()

    def progress(self, fraction: float, message: str = "") -> None:
        """As the context."""
        self._context.progress(fraction, message)

    def log(self, message: str) -> None:
        """As the context."""
        self._context.log(message)

    def samples(self, batch: int) -> int:
        """How many samples a pass has."""
        return sum(len(item) for item in self._context.training(batch, 0))

    @functools.cached_property
    def look(self) -> Tensor:
        """Up to 512 calibration samples as one tensor; fewer where they are large."""
        batches = held_out(self, _AT_ONCE, _LOOKED_AT)
        return torch.cat([torch.from_numpy(np.array(next(iter(item.inputs.values())))) for item in batches])

    @functools.cached_property
    def answers(self) -> list[Tensor]:
        """The teacher's outputs for ``look``."""
        teacher = Teacher(self.teacher)
        parts = [teacher.answer([item])[0] for item in self.look.split(_AT_ONCE)]
        return [torch.cat(rows) for rows in zip(*parts, strict=True)]

    def _gathered(self, batches: Iterator[Batch], size: int) -> Iterator[Batch]:
        waiting: list[Batch] = []
        for item in batches:
            waiting.append(item)
            if sum(len(one) for one in waiting) >= size:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)


def _with_company(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Without a last batch that is too small to have statistics, where there are others."""
    last = None
    for item in batches:
        if last is None or len(item) >= _COMPANY:
            yield item
        last = item


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    inputs = {name: np.concatenate([item.inputs[name] for item in parts]) for name in parts[0].inputs}
    labels = [item.labels for item in parts if item.labels is not None]
    return Batch(inputs, np.concatenate(labels) if labels else None)


def freed(teacher: onnx.ModelProto) -> onnx.ModelProto:
    """The teacher for any batch. Raises ValueError where its arithmetic mixes samples, Unsupported where it cannot be read."""
    imported = to_torch(teacher)
    if not imported.free_batch:
        raise ValueError("the model's batch is fixed and its arithmetic depends on it; expected one that takes samples apart")
    free = onnx.ModelProto()
    free.CopyFrom(teacher)
    for item in (*free.graph.input, *free.graph.output):
        item.type.tensor_type.shape.dim[0].dim_param = "samples"
    return to_onnx(imported, free)
