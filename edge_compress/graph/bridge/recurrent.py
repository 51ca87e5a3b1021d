"""Rule for LSTM, GRU and RNN: torch's own, between the ONNX layouts of gates and directions, and back."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.rules import Plan, RefusedError, View, rule
from edge_compress.graph.bridge.sheet import Array, Call

_KINDS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "LSTM": (nn.LSTM, (0, 2, 3, 1)),
    "GRU": (nn.GRU, (1, 0, 2)),
    "RNN": (nn.RNN, (0,)),
}
"""torch's layer, and for each of torch's gates its place among ONNX's: i o f c -> i f g o, z r h -> r z n"""
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


class Recurrent(nn.Module):
    """A recurrent layer with ONNX's shapes: (time, N, in) -> (time, directions, N, hidden) and (directions, N, hidden)."""

    def __init__(self, cell: nn.RNNBase, operator: str, *, reverse: bool, states: int) -> None:
        super().__init__()
        self.cell, self.operator, self.reverse, self.states = cell, operator, reverse, states

    def forward(self, x: Tensor, *initial: Tensor) -> tuple[Tensor, ...]:
        """``initial``: the states, where the file gives them."""
        start: Any = (initial if self.operator == "LSTM" else initial[0]) if initial else None
        found, last = self.cell(x.flip(0) if self.reverse else x, start)
        directions = 2 if self.cell.bidirectional else 1
        every = found.reshape(*found.shape[:2], directions, self.cell.hidden_size).transpose(1, 2)
        every = every.flip(0) if self.reverse else every
        return (every, *last) if isinstance(last, tuple) else (every, last)

    def emit_onnx(self, call: Call) -> None:
        """The operator, with gates in ONNX's order."""
        weights = [self._packed(call, name) for name in ("weight_ih", "weight_hh")]
        bias = self._packed(call, "bias") if self.cell.bias else ""
        inputs = [call.input(), *weights, bias, "", *(call.input(1 + index) for index in range(self.states))]
        while not inputs[-1]:
            inputs.pop()
        direction = "bidirectional" if self.cell.bidirectional else "reverse" if self.reverse else "forward"
        extra = {"linear_before_reset": 1} if self.operator == "GRU" else {}
        call.write(self.operator, inputs, hidden_size=self.cell.hidden_size, direction=direction, **extra)

    def _packed(self, call: Call, name: str) -> str:
        parts = []
        for side in ("", "_reverse") if self.cell.bidirectional else ("",):
            names = ("bias_ih", "bias_hh") if name == "bias" else (name,)
            parts.append(np.concatenate([self._onnx_order(getattr(self.cell, f"{one}_l0{side}")) for one in names]))
        first = getattr(self.cell, ("bias_ih" if name == "bias" else name) + "_l0")
        return call.weight(first, name, f"packed {name}", lambda _: np.stack(parts))

    def _onnx_order(self, tensor: Tensor) -> Array:
        order = _KINDS[self.operator][1]
        gates = np.split(tensor.detach().cpu().numpy(), len(order))
        return np.concatenate([gates[order.index(place)] for place in range(len(order))])


@rule("LSTM", "GRU", "RNN")
def recurrent(view: View) -> Plan:
    """One layer, forward, reverse or both; usual activations."""
    _check(view)
    kind, order = _KINDS[view.node.op]
    directions, hidden, inner = view.shape(1)[0], view.attr("hidden_size"), view.shape(1)[2]
    cell = kind(inner, hidden, bias=view.has(3), bidirectional=directions == 2, device="meta")
    for side in range(directions):
        suffix = "_l0" + "_reverse" * side
        for index, name in ((1, "weight_ih"), (2, "weight_hh")):
            setattr(cell, name + suffix, view.parameter(index, f"{name}{side}", partial(_gates, order=order, side=side)))
        for half, name in enumerate(("bias_ih", "bias_hh") if view.has(3) else ()):
            change = partial(_gates, order=order, side=side, half=half)
            setattr(cell, name + suffix, view.parameter(3, f"{name}{side}", change))
    initial = _initial(view)
    layer = Recurrent(cell, view.node.op, reverse=view.attr("direction", "forward") == "reverse", states=len(initial))
    return Plan(layer, (0, *initial), weights={"weight_ih": 1, "weight_hh": 2, **({"bias": 3} if view.has(3) else {})})


def _initial(view: View) -> tuple[int, ...]:
    """Positions of the initial states; none where they are constant zeros, which is what torch begins with, for any batch."""
    given = tuple(index for index in ((5, 6) if view.node.op == "LSTM" else (5,)) if view.has(index))
    constants = [view.constant(index) for index in given]
    return () if all(item is not None and not item.any() for item in constants) else given


def _check(view: View) -> None:
    operator = view.node.op
    usual = _USUAL[operator] * view.shape(1)[0]
    if [item.lower() for item in view.attr("activations", usual)] != usual or view.attr("clip") or view.attr("layout", 0):
        raise RefusedError("other activations than the usual, clipping or layout 1")
    if operator == "GRU" and not view.attr("linear_before_reset", 0):
        raise RefusedError("linear_before_reset 0, which torch's GRU does not do; export it with reset_after")
    if view.has(7) or view.attr("input_forget", 0):
        raise RefusedError("peepholes or coupled gates")
    if view.has(4):
        lengths = view.need(4, "the sequence lengths")
        if not bool((lengths == view.shape()[0]).all()):
            raise RefusedError("sequences of different lengths")
    if operator == "LSTM" and view.has(5) != view.has(6):
        raise RefusedError("one initial state without the other")
    if any(view.constant(index) is None for index in (1, 2)) or (view.has(3) and view.constant(3) is None):
        raise RefusedError("weights that are no constants")


def _gates(tensor: Tensor, *, order: tuple[int, ...], side: int, half: int | None = None) -> Tensor:
    """One direction in torch's order; ``half``: of the two biases that ONNX joins."""
    own = tensor[side] if half is None else tensor[side].chunk(2)[half]
    parts = own.chunk(len(order))
    return torch.cat([parts[place] for place in order])
