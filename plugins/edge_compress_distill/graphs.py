"""A student as a graph: traced, and later made ready to be written, with everything that training needed merged or taken out.

What is trained how is left to ``lessons``; writing itself to the bridge.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _Tracer(fx.Tracer):
    """Goes into modules down to those that can be written as one."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return hasattr(m, "emit_onnx") or hasattr(m, "deployed") or super().is_leaf_module(m, module_qualified_name)


def traced(module: nn.Module) -> fx.GraphModule:
    """The module's own graph. Raises ValueError where torch.fx cannot follow it."""
    try:
        return fx.GraphModule(module, _Tracer().trace(module))
    except (RuntimeError, TypeError, ValueError) as error:  # fx.proxy.TraceError is a ValueError
        raise ValueError(f"the architecture's module cannot be traced by torch.fx: {str(error).splitlines()[0]}") from error


class Scale(nn.Module):
    """Each channel times a number: brings the user's values to a deviation near 1. Zeros stay zeros, as padding needs."""

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        return x * self.factors

    def emit_onnx(self, call: Any) -> None:
        """Mul; only where no convolution could take it in."""
        call.write("Mul", [call.input(), call.weight(self.factors, "factors")])


class ChannelsFirst(nn.Module):
    """(N, H, W, C) -> (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Transposed."""
        return x.permute(0, 3, 1, 2)

    def emit_onnx(self, call: Any) -> None:
        """Transpose."""
        call.write("Transpose", [call.input()], perm=[0, 3, 1, 2])


class Spread(nn.Module):
    """Values near 0 with a deviation near 1 -> the teacher's: y = x * spread + mean for each output."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        """(N, outputs) -> the same."""
        return x * self.spread + self.mean

    def emit_onnx(self, call: Any) -> None:
        """Mul and Add; only where no matrix could take them in."""
        product = call.sheet.fresh(f"{call.name}.product")
        call.sheet.node("Mul", [call.input(), call.weight(self.spread, "spread")], [product])
        call.write("Add", [product, call.weight(self.mean, "mean")])


def deployed(module: fx.GraphModule) -> fx.GraphModule:
    """A copy to be written: what is trained in another form has its last one, BatchNorm and scales are merged where that changes
    no answer. The module itself is left as it is."""
    made = copy.deepcopy(module).eval()
    for path, part in list(made.named_modules()):
        if (last := getattr(part, "deployed", None)) is not None:
            _put(made, path, last().eval())
    flat = traced(made)
    _merge(flat, nn.BatchNorm2d, nn.Conv2d, after=True, how=fuse_conv_bn_eval)
    _merge(flat, Scale, nn.Conv2d, after=False, how=_with_scale)
    _merge(flat, Spread, nn.Linear, after=True, how=_with_spread)
    return flat


def _merge(module: fx.GraphModule, small: type[nn.Module], large: type[nn.Module], *, after: bool, how: Any) -> None:
    """Take every ``small`` layer into the ``large`` one before it (``after``: the small one is after) or behind it, where nothing
    else reads what is between them."""
    for node in [item for item in module.graph.nodes if _is(module, item, small)]:
        other: Any = node.args[0] if after else next(iter(node.users))
        between = other if after else node
        if _is(module, other, large) and len(between.users) == 1 and _uses(module, other) == 1:
            path = str(other.target)
            _put(module, path, how(module.get_submodule(path), module.get_submodule(str(node.target))))
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()


def _is(module: fx.GraphModule, node: Any, kind: type[nn.Module]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_module" and type(module.get_submodule(str(node.target))) is kind


def _uses(module: fx.GraphModule, node: fx.Node) -> int:
    return sum(item.op == "call_module" and item.target == node.target for item in module.graph.nodes)


def _with_scale(layer: Any, scale: Any) -> Any:
    """Each weight times the factor of the channel that it reads."""
    outputs, inputs = layer.weight.shape[:2]
    factors = scale.factors.reshape(layer.groups, 1, inputs).expand(layer.groups, outputs // layer.groups, inputs)
    with torch.no_grad():
        layer.weight.mul_(factors.reshape(outputs, inputs, *[1] * (layer.weight.dim() - 2)))
    return layer


def _with_spread(layer: Any, spread: Any) -> Any:
    with torch.no_grad():
        layer.weight.mul_(spread.spread.reshape(-1, 1))
        layer.bias.mul_(spread.spread).add_(spread.mean)
    return layer


def _put(module: nn.Module, path: str, part: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, part)
