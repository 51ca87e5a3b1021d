"""How many bytes of activations live at once when a graph runs in its own order.

A tensor lives from the node that makes it to its last reader; outputs live to the end. Views cost nothing, and an elementwise
node writes over an input that nobody needs afterwards, as runtimes do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import onnx

from edge_compress.graph.walk import uses

_VIEW_NAMES = "Identity Reshape Flatten Squeeze Unsqueeze Dropout"
_ELEMENTWISE_NAMES = (
    "Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Elu Selu Softplus Gelu Mish Add Sub Mul Div Sqrt Exp Neg Abs "
    "BatchNormalization Softmax LogSoftmax Erf Pow Floor Ceil Round Reciprocal"
)
_VIEWS = frozenset(_VIEW_NAMES.split())
_IN_PLACE = _VIEWS | frozenset(_ELEMENTWISE_NAMES.split())


def peak_bytes(
    nodes: Sequence[onnx.NodeProto], inputs: Iterable[str], outputs: Iterable[str], bytes_of: Callable[[str], int | None]
) -> int:
    """The largest sum over all nodes. ``bytes_of`` gives 0 for what is no activation and None for an unknown size, which makes
    the answer 0: a guess that is too low would admit a model that does not fit."""
    last = _last_use(nodes, outputs)
    live: dict[str, int] = {}
    for name in inputs:
        size = bytes_of(name)
        if size is None:
            return 0
        live[name] = size
    peak = sum(live.values())
    for index, node in enumerate(nodes):
        sizes = {name: bytes_of(name) for name in node.output if name in last}
        if any(size is None for size in sizes.values()):
            return 0
        live |= {name: size or 0 for name, size in sizes.items()}
        over = _written_over(node, live, last, index)
        peak = max(peak, sum(live.values()) - over)
        live = {name: size for name, size in live.items() if last.get(name, -1) > index}
    return peak


def _last_use(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> dict[str, int]:
    last = {name: index for index, node in enumerate(nodes) for name in uses(node)}
    return last | {name: len(nodes) for name in outputs}


def _written_over(node: onnx.NodeProto, live: dict[str, int], last: dict[str, int], index: int) -> int:
    if node.op_type not in _IN_PLACE:
        return 0
    made = live.get(node.output[0], 0)
    dying = [live[name] for name in node.input if name in live and last.get(name) == index]
    return made if made in dying or (dying and node.op_type in _VIEWS) else 0
