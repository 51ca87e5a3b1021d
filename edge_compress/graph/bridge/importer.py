"""Builds the torch graph of a model: reads node after node, folds what is constant, and asks the rules for the rest.

Operators are known to the modules of their families only. Writing back is left to ``writer``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge import activations, arithmetic, layers, pooling, recurrent, resizing, shaping
from edge_compress.graph.bridge.folding import folded, is_seen_from_another_side
from edge_compress.graph.bridge.modules import EdgePad, Operator
from edge_compress.graph.bridge.parts import Parts, is_learned
from edge_compress.graph.bridge.rules import RULES, Plan, RefusedError, View
from edge_compress.graph.bridge.sheet import Origin, Template
from edge_compress.graph.bridge.source import Node, Source, objection, read, values
from edge_compress.graph.bridge.trial import tried
from edge_compress.graph.bridge.values import BATCH, LENGTHS, Symbol, Value, assignments, blank, input_shape, symbols_of

FAMILIES = (activations, arithmetic, layers, pooling, recurrent, resizing, shaping)
"""imported so that their rules are registered"""

Refusal = tuple[str, str, str]
"""(operator, node, why)"""


@dataclass(frozen=True)
class Imported:
    """A model as a module, with the names it had."""

    module: fx.GraphModule
    """takes the inputs in order; gives one tensor, or a tuple where there are several outputs"""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, str]
    """path in ``module`` -> name of the tensor in the file"""
    free_batch: bool
    """any batch size works, also where the file fixes it"""


def import_model(model: onnx.ModelProto) -> Imported:
    """See ``edge_compress.graph.bridge.to_torch``."""
    build = _attempt(read(model))
    if build.refusals:
        said = "; ".join(f"{op} ({name}): {why}" for op, name, why in build.refusals)
        raise Unsupported(f"no trainable form for {len(build.refusals)} nodes: {said}")
    return build.finish()


def refusals(model: onnx.ModelProto) -> list[Refusal]:
    """See ``edge_compress.graph.bridge.what``."""
    return _attempt(read(model)).refusals


def _attempt(source: Source) -> Builder:
    """The first attempt that works, or the one that came furthest."""
    attempts: list[Builder] = []
    for free_batch in (True, False):
        for length in LENGTHS:
            symbols = symbols_of(source.inputs, length, free_batch=free_batch)
            build = Builder(source, symbols)
            build.run()
            if not build.refusals:
                return build
            attempts.append(build)
            if not build.by_size or not any(item.name != BATCH for item in symbols):
                break
        if not attempts[-1].by_size:
            break
    return min(attempts, key=lambda item: len(item.refusals))


class Builder:
    """One attempt at a model with given trial sizes."""

    def __init__(self, source: Source, symbols: Sequence[Symbol]) -> None:
        self.source, self.symbols = source, symbols
        self.sizes = assignments(symbols)
        self.refusals: list[Refusal] = []
        self.by_size = False
        """some refusal may be due to the trial sizes"""
        self._parts = Parts(symbols)
        self._values: dict[str, Value] = {}
        self._broken: set[str] = set()
        self._parameters: dict[tuple[str, str], nn.Parameter] = {}
        self._outputs: list[fx.Node] = []

    def run(self) -> None:
        """Every node in turn; what is refused is noted, and what depends on it only looked up."""
        with torch.no_grad():
            for index, item in enumerate(self.source.inputs):
                self._guard("input", item.name, (item.name,), partial(self._placeholder, index, item))
            for node in self.source.nodes:
                if not all(name in self._values for name in node.outputs if name):
                    self._take(node)
            for name in self.source.outputs:
                if name not in self._broken:
                    self._guard("output", name, (), partial(self._output, name))

    def finish(self) -> Imported:
        """The module, in eval mode."""
        self._parts.graph.output(self._outputs[0] if len(self._outputs) == 1 else tuple(self._outputs))
        module = fx.GraphModule(self._parts.root, self._parts.graph).eval()
        names = tuple(item.name for item in self.source.inputs)
        return Imported(module, names, self.source.outputs, dict(self._parts.origins), self._free_batch())

    def _output(self, name: str) -> None:
        self._outputs.append(self._parts.tensor(self._value(name)))

    def _free_batch(self) -> bool:
        place = next((index for index, item in enumerate(self.symbols) if item.name == BATCH), None)
        if place is None:
            return False
        probe, size = place + 1, self.symbols[place].sizes[1]
        return all(self._value(name).probes[probe].shape[:1] == (size,) for name in self.source.outputs)

    def _placeholder(self, index: int, item: onnx.ValueInfoProto) -> None:
        dtype = arithmetic.torch_type(item.type.tensor_type.elem_type)
        probes = tuple(blank(input_shape(item, index, sizes), dtype) for sizes in self.sizes)
        self._values[item.name] = Value(item.name, probes, node=self._parts.placeholder(item.name))

    def _take(self, node: Node) -> None:
        said = objection(node) or (None if node.op in RULES or node.op in ("Shape", "Size") else "the operator is not known")
        if said:
            self._refuse(node.op, node.name, node.outputs, said)
        elif any(name in self._broken for name in node.inputs):
            self._broken.update(node.outputs)
        else:
            self._guard(node.op, node.name, node.outputs, partial(self._convert, node))

    def _guard(self, op: str, name: str, outputs: Sequence[str], act: Callable[[], None]) -> None:
        """Note what goes wrong instead of stopping there."""
        try:
            act()
        except RefusedError as error:
            self._refuse(op, name, outputs, str(error))
        except Exception as error:  # rules run torch on what strangers wrote: any error it raises means "not this node"
            self.by_size = True
            first = next(iter(str(error).splitlines()), type(error).__name__)
            self._refuse(op, name, outputs, f"fails in torch: {first}")

    def _refuse(self, op: str, name: str, outputs: Sequence[str], why: str) -> None:
        self.refusals.append((op, name, why))
        self.by_size = self.by_size or "free" in why
        self._broken.update(outputs)

    def _convert(self, node: Node) -> None:
        given = tuple(self._value(name) if name else None for name in node.inputs)
        if node.op in ("Shape", "Size"):
            self._values[node.outputs[0]] = _measured(node, self._value(node.inputs[0]))
            return
        known = [item for item in given if item is not None]
        if all(item.known for item in known) and not self._keeps_a_tie(node, known):
            found = folded(node, given, lambda values: self._view(node, values), self.symbols)
            if found is not None:
                self._values.update(found)
                return
        self._write(node, self._view(node, given))

    def _keeps_a_tie(self, node: Node, known: Sequence[Value]) -> bool:
        """A weight turned for one user while others take it as it is stays one weight: it is turned while the model runs."""
        if not is_seen_from_another_side(node, known):
            return False
        return is_learned(known[0]) and len(self.source.uses.get(known[0].name, ())) > 1

    def _view(self, node: Node, given: tuple[Value | None, ...]) -> View:
        def make(index: int, form: str, change: Callable[[Tensor], Tensor] | None) -> nn.Parameter:
            value = given[index]
            if value is None or not value.probes[0].is_floating_point():
                raise RefusedError(f"input {index} holds no floats")
            key = (value.name, form)
            if key not in self._parameters:
                tensor = value.probes[0]
                self._parameters[key] = nn.Parameter((change(tensor) if change else tensor).clone().contiguous())
            return self._parameters[key]

        return View(node, self.source.opset, given, make, self._is_mixed)

    def _is_mixed(self, name: str) -> bool:
        parts = {(user.op, place, str(user.attributes.get("transB"))) for user, place in self.source.uses.get(name, ())}
        return len(parts) > 1

    def _write(self, node: Node, view: View) -> None:
        plan = RULES[node.op](view)
        bias = self._bias_after(node, plan)
        template = _template(node, plan, view)
        weights = {name: node.inputs[index] for name, index in plan.weights.items()}
        if bias:
            weights["bias"] = next(name for name in bias.inputs if name != node.outputs[0])
        target, module = self._layer(node, plan, template, weights)
        args = [self._parts.argument(view.value(index), sized=index in plan.sizes) for index in plan.args]
        probes = [[_trial(view.value(index), k, index in plan.sizes) for index in plan.args] for k in range(len(self.sizes))]
        if plan.pads:
            args[0], probes = self._pad_before(node, plan, args[0], probes)
        made = [tried(module, *row) for row in probes]
        call = self._parts.graph.call_module(target, tuple(args))
        outputs = bias.outputs if bias else node.outputs
        call.meta["onnx"] = Origin(template, type(module), outputs, weights, bias.proto if bias else None)
        self._parts.origins.update({f"{target}.{name}": stored for name, stored in weights.items()})
        self._keep(outputs, call, made)

    def _keep(self, outputs: Sequence[str], call: fx.Node, made: Sequence[Any]) -> None:
        if isinstance(made[0], (tuple, list)):
            for index, name in enumerate(outputs):
                if name:
                    item = self._parts.graph.call_function(operator.getitem, (call, index))
                    self._values[name] = Value(name, tuple(_blanked(row[index]) for row in made), node=item)
        else:
            self._values[outputs[0]] = Value(outputs[0], tuple(_blanked(item) for item in made), node=call)

    def _pad_before(self, node: Node, plan: Plan, first: Any, probes: list[list[Any]]) -> tuple[Any, list[list[Any]]]:
        module = EdgePad(plan.pads)
        return self._parts.call(f"{node.name}_pad", module, (first,)), [[module(row[0]), *row[1:]] for row in probes]

    def _layer(self, node: Node, plan: Plan, template: Template, weights: Mapping[str, str]) -> tuple[str, nn.Module]:
        """The module, under its name in the graph; one and the same for nodes that share all weights and settings."""
        module = plan.module if isinstance(plan.module, nn.Module) else Operator(plan.module, template)
        key = (node.op, repr(module), *sorted(weights.items())) if weights else node.outputs
        return self._parts.shared(key, node.name, module)

    def _bias_after(self, node: Node, plan: Plan) -> Node | None:
        """The Add of a constant vector that alone follows a Linear; its vector becomes the layer's bias."""
        layer = plan.module
        if node.op != "MatMul" or not isinstance(layer, nn.Linear):
            return None
        user = self.source.sole_user(node.outputs[0])
        other = next((name for name in user.inputs if name != node.outputs[0]), None) if user and user.op == "Add" else None
        if user is None or other is None or other not in {*self.source.stored, *self._values} or other in self._broken:
            return None
        value = self._value(other)
        if value.constant is None or value.shape != (layer.out_features,) or self._is_mixed(other):
            return None
        layer.bias = self._view(user, (value,)).parameter(0)
        return user

    def _value(self, name: str) -> Value:
        if name not in self._values:
            try:
                tensor = torch.from_numpy(values(self.source.stored[name]))
            except TypeError as error:
                raise RefusedError(f"{name} is of a type that torch does not have") from error
            self._values[name] = Value(name, (tensor,) * len(self.sizes), known=True, stored=True)
        return self._values[name]


def _measured(node: Node, value: Value) -> Value:
    if node.op == "Size":
        return Value(node.outputs[0], tuple(torch.tensor(item.numel()) for item in value.probes), known=True)
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return Value(
        node.outputs[0], tuple(torch.tensor(list(item.shape)[start:end], dtype=torch.int64) for item in value.probes), known=True
    )


def _trial(value: Value, probe: int, sized: bool) -> Any:
    tensor = value.probes[probe]
    return [int(item) for item in tensor.reshape(-1).tolist()] if sized and value.known else tensor


def _blanked(tensor: Tensor) -> Tensor:
    return blank(tensor.shape, tensor.dtype)


def _template(node: Node, plan: Plan, view: View) -> Template:
    slots: list[Any] = []
    for index, name in enumerate(node.inputs):
        tensor = view.constant(index) if name else None
        if index in plan.args and not (index in plan.sizes and tensor is not None):
            slots.append(plan.args.index(index))
        else:
            held = tensor is not None and index not in plan.weights.values()
            slots.append(tensor.numpy() if held and tensor is not None else None)
    return Template(node.proto, tuple(slots))
