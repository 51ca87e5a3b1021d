"""Which channels of a module must go together. Torch-Pruning finds them; here each group is tried before it is believed.

A group is tried by cutting some of its channels from a copy: that must give what silencing them where they are read gives, with
the same interface. Groups that do not are left out, with the reason. How many channels go is left to ``structured_budget``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from edge_compress.graph.bridge.norms import Normed
from edge_compress.graph.bridge.training import outputs_of

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TURNED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
ROOTS = (*CONVS, *TURNED, nn.Linear)
_TOLERANCE = 1e-3
"""how far the two answers of a trial may be apart, as a fraction of the largest magnitude"""


@dataclass(frozen=True)
class Part:
    """A layer that a group reaches. ``places``: positions along its channel axis; ``roots``: the group's channel at each."""

    path: str
    reads: bool
    """it reads the channels; otherwise it makes them, or passes each one on by itself"""
    places: np.ndarray[Any, Any]
    roots: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Group:
    """Channels that go together: number k of every part. ``name``: path of the layer that the group starts from."""

    name: str
    channels: int
    parts: tuple[Part, ...]
    leaves: bool = False
    """some of it is an output of the model"""

    @property
    def readers(self) -> tuple[Part, ...]:
        """The parts that read."""
        return tuple(part for part in self.parts if part.reads)


def find_groups(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[list[Group], list[str]]:
    """The groups of a module that can be cut, and why others cannot, a line for each. ``inputs``: a few real samples."""
    try:
        graph = _graph(module, inputs)
        found = [_described(item, graph) for item in graph.get_all_groups(root_module_types=ROOTS)]
    except Exception as error:  # Torch-Pruning raises whatever its tracing runs into
        return [], [f"no channels can be cut: {_said(error)}"]
    inner = [item for item in found if item.readers and not item.leaves and item.channels > 1]
    objections = {item.name: _objection(item, module, inputs) for item in inner}
    left_out = [
        f"{item.name} keeps its {item.channels} channels: {objections[item.name]}" for item in inner if objections[item.name]
    ]
    return [item for item in inner if not objections[item.name]], left_out


def cut(module: nn.Module, inputs: Sequence[Tensor], gone: Mapping[str, Sequence[int]]) -> None:
    """Take channels out of a module in place. ``gone``: group name -> numbers of its channels as they are now."""
    graph = _graph(module, inputs)
    for name, channels in gone.items():
        root = module.get_submodule(name)
        prune = graph.get_pruner_of_module(root).prune_out_channels
        graph.get_pruning_group(root, prune, sorted(channels)).prune(record_history=False)


class Silence:
    """While entered, certain channels of a group are read by nobody: the module answers as if they were cut.

    ``first`` may change the weights and offsets of the readers before; all are as they were afterwards.
    """

    def __init__(
        self, module: nn.Module, group: Group, channels: Sequence[int], first: Callable[[], None] = lambda: None
    ) -> None:
        self._first = first
        self._layers: list[Any] = [module.get_submodule(part.path) for part in group.readers]
        chosen = np.asarray(channels)
        self._places = [torch.from_numpy(part.places[np.isin(part.roots, chosen)]) for part in group.readers]
        offsets = [offset_of(module, part.path) for part in group.readers]
        self._changed: list[Tensor] = [*(layer.weight for layer in self._layers), *(item[0] for item in offsets if item)]
        self._kept: list[Tensor] = []

    def __enter__(self) -> None:
        self._kept = [item.detach().clone() for item in self._changed]
        self._first()
        with torch.no_grad():
            for layer, places in zip(self._layers, self._places, strict=True):
                columns_of(layer).index_fill_(0, places, 0.0)

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for item, kept in zip(reversed(self._changed), reversed(self._kept), strict=True):
                item.copy_(kept)


def offset_of(module: nn.Module, path: str) -> tuple[Tensor, float] | None:
    """What is added to each channel that a layer makes, and the sign it is added with; None: nothing is.

    A convolution that has a BatchNorm of ours behind it has its mean taken off instead.
    """
    layer: Any = module.get_submodule(path)
    if layer.bias is not None:
        return layer.bias, 1.0
    owner = module.get_submodule(path.rpartition(".")[0])
    return (cast(Any, owner)[1].running_mean, -1.0) if isinstance(owner, Normed) else None


def columns_of(layer: Any) -> Tensor:
    """The weight with the channels that the layer reads as the first axis: a view."""
    weight: Tensor = layer.weight
    return weight if isinstance(layer, TURNED) else weight.transpose(0, 1)


def rows_of(layer: Any) -> Tensor:
    """The weight with the channels that the layer makes as the first axis: a view."""
    weight: Tensor = layer.weight
    return weight.transpose(0, 1) if isinstance(layer, TURNED) else weight


def is_depthwise(layer: Any) -> bool:
    """A convolution in which each channel is its own."""
    return isinstance(layer, CONVS) and layer.groups == layer.in_channels == layer.out_channels and layer.groups > 1


def _graph(module: nn.Module, inputs: Sequence[Tensor]) -> Any:
    with torch.enable_grad():
        return tp.DependencyGraph().build_dependency(module.eval(), example_inputs=tuple(inputs), verbose=False)


def _described(found: Any, graph: Any) -> Group:
    names = {layer: name for name, layer in graph.model.named_modules()}
    parts = []
    for item in found:
        layer = item.dep.target.module
        if layer in names and isinstance(layer, nn.Module) and isinstance(getattr(layer, "weight", None), Tensor):
            reads = isinstance(layer, ROOTS) and not is_depthwise(layer) and graph.is_in_channel_pruning_fn(item.dep.handler)
            parts.append(Part(names[layer], reads, np.array(item.idxs, np.int64), np.array(item.root_idxs, np.int64)))
    root = found[0]
    leaves = any(item.dep.target.type == graph.ops.OPTYPE.OUTPUT for item in found)
    return Group(names[root.dep.target.module], len(root.idxs), tuple(parts), leaves)


def _objection(group: Group, module: nn.Module, inputs: Sequence[Tensor]) -> str:
    """Why a group cannot be cut; empty: it can."""
    for part in group.parts:
        layer: Any = module.get_submodule(part.path)
        if isinstance(layer, (*CONVS, *TURNED)) and layer.groups > 1 and not is_depthwise(layer):
            return f"{part.path} is a convolution in {layer.groups} groups"
        if part.reads and len(set(np.bincount(part.roots, minlength=group.channels))) > 1:
            return f"{part.path} reads some of them more often than others"
    gone = list(range(0, group.channels, 3))
    try:
        with torch.no_grad(), Silence(module, group, gone):
            wanted = outputs_of(module.eval(), inputs)
        thinner = copy.deepcopy(module)
        cut(thinner, inputs, {group.name: gone})
        with torch.no_grad():
            made = outputs_of(thinner, inputs)
    except Exception as error:  # whatever a wrong cut leads to
        return f"a trial cut fails: {_said(error)}"
    return "" if all(map(_alike, wanted, made)) else "a trial cut changes more than the channels that were cut"


def _alike(wanted: Tensor, made: Tensor) -> bool:
    if wanted.shape != made.shape:
        return False
    size = float(wanted.abs().max()) or 1.0
    return float((wanted - made).abs().max()) <= _TOLERANCE * size


def _said(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
