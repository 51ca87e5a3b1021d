"""An assembly as a module that trains: the integers, biases and activations that ``assembly`` would write, imitated in torch.

``Student`` puts grids where ``placement`` has them, trains the layers that alone read their weights, and gives what it learnt
back to the assembly. What it answers is what the written model answers, but for float rounding. Leaves the training to ``tune``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from edge_compress.graph.bridge import Unsupported, to_torch
from edge_compress_quantize.assembly import Assembly, Layer
from edge_compress_quantize.fake import Gridded, IntegerBias, IntegerWeights, near
from edge_compress_quantize.grid import Grid
from edge_compress_quantize.kernels import Kernel, bias_of
from edge_compress_quantize.placement import Placement

Array = np.ndarray[Any, Any]

_CHANGES_IN_TRAINING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout)


class AsServed(nn.Module):
    """A layer that stays as it is when the model trains: what is written has its statistics as constants."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.eval()

    def train(self, mode: bool = True) -> AsServed:
        """Stay in eval mode."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives."""
        made: Tensor = self.layer(x)
        return made


class Student:
    """See the module. Raises Unsupported where the bridge cannot take the model, or has no one module for a tensor on a grid."""

    def __init__(self, assembly: Assembly, *, learn_steps: bool) -> None:
        imported = to_torch(assembly.model)
        self.module, self.inputs, self._assembly = imported.module, imported.inputs, assembly
        self._makers = makers(self.module)
        placed = assembly.placed()
        self._grids = assembly.grids(placed)
        self._kernels = assembly.kernels_for(placed, self._grids)
        self._keep_as_served()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        self._trained = [layer for layer in assembly.layers if self._imitate(layer, placed, learn_steps)]
        _put_grids(self.module, imported.inputs, placed, self._grids)

    def hand_over(self) -> None:
        """Give the assembly the integers and biases as they are now."""
        for layer in self._trained:
            part = self._part(layer)
            weights: IntegerWeights = part.parametrizations.weight[0]
            with torch.no_grad():
                integers = weights.integers(part.parametrizations.weight.original).contiguous().numpy()
                scale, bias = weights.step.reshape(-1).numpy(), part.bias
            known = self._kernels[layer.weight]
            grid = replace(known.grid, scale=scale.astype(np.float32).reshape(known.grid.scale.shape))
            stored = integers + int(known.grid.zero_point.flat[0])
            self._assembly.kernels[layer.weight] = Kernel(grid, _turned(layer, stored).astype(known.integers.dtype))
            if layer.node.op_type != "MatMul":
                self._assembly.biases[layer.key] = bias.detach().numpy().astype(np.float32)

    def integer_weights(self) -> Iterator[tuple[Layer, Array]]:
        """Every trained layer with its integers now, the zero point taken off."""
        for layer in self._trained:
            held = self._part(layer).parametrizations.weight
            yield layer, held[0].integers(held.original).detach().numpy()

    def _part(self, layer: Layer) -> Any:
        return self.module.get_submodule(self._makers[layer.key])

    def _imitate(self, layer: Layer, placed: Placement, learn_steps: bool) -> bool:
        """Put integers into a layer; False where others read its weights too, which then stay as they are."""
        if layer.key not in self._makers:
            raise Unsupported(f"{layer.title} is no layer of its own in torch")
        part, kernel = self._part(layer), self._kernels[layer.weight]
        uses = [node.target for node in self.module.graph.nodes].count(self._makers[layer.key])
        shared = [item.weight[0] for item in self._assembly.layers].count(layer.weight[0]) > 1 or uses > 1
        values = kernel.values if shared else near(layer.found.weights, kernel)
        part.weight = nn.Parameter(torch.from_numpy(_turned(layer, values)), requires_grad=not shared)
        bias = bias_of(layer.node, layer.found, self._assembly.biases)
        if layer.node.op_type != "MatMul" and (bias is not None or not shared):
            held = np.zeros(len(part.weight), np.float32) if bias is None else bias
            part.bias = nn.Parameter(torch.from_numpy(held.copy()), requires_grad=not shared)
        if not shared:
            self._train(layer, part, kernel, float(self._grids[placed.root[layer.node.input[0]]].scale), learn_steps)
        return not shared

    def _train(self, layer: Layer, part: Any, kernel: Kernel, data_step: float, learn_steps: bool) -> None:
        axis = None if kernel.grid.axis is None else 0
        turned = Kernel(replace(kernel.grid, axis=axis), _turned(layer, kernel.integers))
        weights = IntegerWeights(turned, learn_steps=learn_steps)
        fan_in = part.weight[0].numel()
        parametrize.register_parametrization(part, "weight", weights)
        if layer.node.op_type != "MatMul":
            parametrize.register_parametrization(part, "bias", IntegerBias(part.bias, weights, data_step, fan_in))

    def _keep_as_served(self) -> None:
        for path, part in list(self.module.named_modules()):
            if isinstance(part, _CHANGES_IN_TRAINING):
                self.module.set_submodule(path, AsServed(part))


def _turned(layer: Layer, values: Array) -> Array:
    """A layer's weights between the file and torch, which has channels first in every matrix product; its own inverse."""
    matrix = values.ndim == 2 and layer.found.axis == 1
    return np.ascontiguousarray(values.T if matrix else values)


def makers(module: fx.GraphModule) -> dict[str, str]:
    """First output of each node in the file -> path of the module that stands for it, for a module that came from an import."""
    calls = [node for node in module.graph.nodes if node.op == "call_module" and "onnx" in node.meta]
    return {node.meta["onnx"].template.proto.output[0]: str(node.target) for node in calls}


def _put_grids(module: fx.GraphModule, inputs: tuple[str, ...], placed: Placement, grids: Mapping[str, Grid]) -> None:
    """A ``Gridded`` behind every tensor with a grid of its own, for those that read its integers."""
    sources = dict(_sources(module, inputs))
    for index, root in enumerate(placed.roots):
        if root not in sources:
            raise Unsupported(f"{root!r}, which is quantised, is not made by one module in torch")
        name = f"grid_{index}"
        module.add_submodule(name, Gridded(grids[root]))
        source = sources[root]
        with module.graph.inserting_after(source):
            gridded = module.graph.call_module(name, (source,))
        everyone = root in placed.emitted
        for user in list(source.users):
            if user is not gridded and (everyone or _reads_integers(user, placed)):
                user.replace_input_with(source, gridded)
    module.recompile()


def _sources(module: fx.GraphModule, inputs: tuple[str, ...]) -> Iterator[tuple[str, fx.Node]]:
    """(name in the file, node) of every tensor."""
    entries = iter(inputs)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            yield next(entries), node
        elif "onnx" in node.meta:
            yield node.meta["onnx"].outputs[0], node
        elif node.target is operator.getitem and "onnx" in node.args[0].meta:
            yield node.args[0].meta["onnx"].outputs[node.args[1]], node


def _reads_integers(user: fx.Node, placed: Placement) -> bool:
    """Whether a node runs on integers; padding in front of a convolution belongs to that."""
    if "onnx" in user.meta:
        return user.meta["onnx"].template.proto.output[0] in placed.roles
    return user.op == "call_module" and bool(user.users) and all(_reads_integers(item, placed) for item in user.users)
