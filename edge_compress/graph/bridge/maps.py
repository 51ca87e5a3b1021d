"""Inner maps of a student beside those of its teacher: by squared error where shapes agree, else where in space the energy is.

Source of the latter: Zagoruyko and Komodakis 2017 (arXiv:1612.03928). Which maps, and how much they count, is left to the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from edge_compress.graph.shapes import tensor_types

_MOST_STAGES = 4
_BENDS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "HardSwish", "Elu", "Gelu"})
_TELLING = _BENDS | {"Add", "BatchNormalization", "Conv", "Gemm", "LayerNormalization", "MatMul", "Mul"}
"""operators whose outputs are what a stage says; others only move it about"""


class Taps:
    """Listens to the modules of an imported graph that make certain tensors; ``seen`` holds the last of each by name."""

    def __init__(self, student: nn.Module, names: Sequence[str]) -> None:
        self.seen: dict[str, Tensor] = {}
        found = makers(student) if names else {}
        for name in names:
            if name not in found:
                raise ValueError(f"features: {name!r} is not made by one module of the student; expected one of its tensors")
            found[name].register_forward_hook(self._listener(name))

    def _listener(self, name: str) -> Any:
        def listen(_: nn.Module, __: Any, output: Tensor) -> None:
            self.seen[name] = output.float()

        return listen


def makers(student: nn.Module) -> dict[str, nn.Module]:
    """Name of each tensor in the file -> the module that makes it, for a module that came from an import. Another says in an
    attribute ``makes`` which of its modules stand beside which tensors of the teacher."""
    if isinstance(own := getattr(student, "makes", None), dict):
        return own
    if not isinstance(student, fx.GraphModule):
        return {}
    calls = [node for node in student.graph.nodes if node.op == "call_module" and "onnx" in node.meta]
    used = Counter(str(node.target) for node in calls)
    # A module that is called twice (shared weights) tells its last output only, which need not be the one that is meant.
    once = [node for node in calls if used[str(node.target)] == 1]
    return {node.meta["onnx"].outputs[0]: student.get_submodule(str(node.target)) for node in once}


def stage_maps(student: nn.Module, teacher: onnx.ModelProto) -> tuple[str, ...]:
    """Tensors that both make, one a resolution, in order: at most four, the last ones. Empty where there are none.

    Of each resolution it is the last sum of a residual stream (or the activation behind it), else the last map at all.
    """
    types = tensor_types(teacher)
    made = makers(student)
    sums = {node.output[0] for node in teacher.graph.node if node.op_type == "Add"}
    last: dict[tuple[int, ...], tuple[bool, str]] = {}
    for node in teacher.graph.node:
        name = node.output[0]
        shape = types[name].shape if name in types and name in made and node.op_type in _TELLING else None
        if shape is None or len(shape) < 3 or max(shape[2:]) < 2:
            continue
        of_a_sum = name in sums or (node.op_type in _BENDS and node.input[0] in sums)
        if of_a_sum >= last.get(shape[2:], (False, ""))[0]:
            last.pop(shape[2:], None)
            last[shape[2:]] = (of_a_sum, name)
    return tuple(name for _, name in last.values())[-_MOST_STAGES:]


def map_loss(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Tensor:
    """The mean over the maps; 0 where all are alike."""
    return torch.stack([_one(ours[name], wanted) for name, wanted in theirs.items()]).mean()


def _one(ours: Tensor, theirs: Tensor) -> Tensor:
    if ours.shape == theirs.shape:
        return F.mse_loss(ours, theirs) / theirs.var(correction=0).clamp_min(1e-12)
    cut = [axis for axis in range(1, theirs.dim()) if ours.shape[axis] != theirs.shape[axis]]
    return (_energy(ours, cut) - _energy(theirs, cut)).square().sum(-1).mean()


def _energy(maps: Tensor, channels: list[int]) -> Tensor:
    """(N, C, ...) -> (N, places): the mean square over the channels (the last axis in transformers), of length 1 for each
    sample."""
    return F.normalize(maps.square().mean(channels).flatten(1), dim=-1)
