"""Inner maps of the student that should be like the teacher's: found by their size, compared by attention or through a hint.

Sources: Romero et al. 2015 (arXiv:1412.6550) for hints, where a 1 x 1 convolution that is thrown away afterwards turns the
student's channels into the teacher's; Zagoruyko and Komodakis 2017 (arXiv:1612.03928) for attention, where only the place of the
energy counts. How far two maps are apart is known to ``edge_compress.graph.bridge.maps``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, fx, nn

from edge_compress.graph.bridge.teacher import Teacher

KINDS = ("none", "hints", "attention")
_MAKERS = frozenset({"Conv", "Relu", "Clip", "Add", "BatchNormalization", "Concat", "Mul", "HardSwish", "LeakyRelu"})
_SMALLEST = 2
"""pixels of each side under which a map has no places to speak of"""

Places = tuple[int, ...]


def teachers_maps(teacher: onnx.ModelProto, inputs: Sequence[Tensor]) -> dict[Places, tuple[str, int]]:
    """Height and width -> the name and the channels of the last map of that size, for a sample as the teacher takes it."""
    outputs = {item.name for item in teacher.graph.output}
    names = [node.output[0] for node in teacher.graph.node if node.op_type in _MAKERS and node.output[0] not in outputs]
    _, seen = Teacher(teacher, maps=names).answer([item[:1] for item in inputs])
    maps = {name: tuple(seen[name].shape) for name in names}
    return {shape[2:]: (name, shape[1]) for name, shape in maps.items() if len(shape) == 4 and min(shape[2:]) >= _SMALLEST}


def students_maps(student: fx.GraphModule, inputs: Sequence[Tensor]) -> dict[Places, tuple[fx.Node, int]]:
    """Height and width -> the last node of the student's graph that gives a map of that size, and its channels."""
    shapes = _Shapes(student).of([item[:1] for item in inputs])
    return {shape[2:]: (node, shape[1]) for node, shape in shapes.items() if len(shape) == 4 and node.op != "placeholder"}


class _Shapes(fx.Interpreter):
    def of(self, inputs: Sequence[Tensor]) -> dict[fx.Node, tuple[int, ...]]:
        """The shape of each tensor in the graph, in eval mode."""
        self.seen: dict[fx.Node, tuple[int, ...]] = {}
        self.module.eval()
        with torch.no_grad():
            self.run(*inputs)
        return self.seen

    def run_node(self, n: fx.Node) -> object:
        made = super().run_node(n)
        if isinstance(made, Tensor):
            self.seen[n] = tuple(made.shape)
        return made


class Energy(nn.Module):
    """One map a sample whose squares are the energy at each place, whatever the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        return (x.square().mean(1, keepdim=True) + 1e-12).sqrt()


def match(
    student: fx.GraphModule,
    kind: str,
    theirs: Mapping[Places, tuple[str, int]],
    ours: Mapping[Places, tuple[fx.Node, int]],
    seed: int,
) -> tuple[str, ...]:
    """Put a listener behind each map of the student whose size the teacher has too; returns the names of the teacher's maps, as
    ``Course.features`` takes them. ``unmatch`` takes the listeners out again."""
    makes: dict[str, nn.Module] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for places, (node, channels) in ours.items():
            if places in theirs:
                name, wanted = theirs[places]
                makes[name] = _listen(student, node, nn.Conv2d(channels, wanted, 1) if kind == "hints" else Energy())
    student.recompile()
    student.makes = makes  # type: ignore[assignment]  # not a tensor or module of its own: who stands beside which of the teacher's
    return tuple(makes)


def unmatch(student: fx.GraphModule) -> None:
    """Take out what ``match`` put in."""
    for node in reversed(student.graph.nodes):
        if node.op == "call_module" and str(node.target).startswith(_PREFIX):
            student.graph.erase_node(node)
            delattr(student, str(node.target))
    student.recompile()


_PREFIX = "listener_"


def _listen(student: fx.GraphModule, node: fx.Node, module: nn.Module) -> nn.Module:
    name = f"{_PREFIX}{node.name}"
    student.add_module(name, module)
    with student.graph.inserting_after(node):
        student.graph.call_module(name, (node,))
    return module
