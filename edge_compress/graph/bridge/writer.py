"""Writes an imported graph back to ONNX: the same operators, with the weights and shapes its modules have by now.

Nothing is traced, so the same module gives the same bytes. Modules that did not come from an import are left to ``export``.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, fx

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.arithmetic import torch_type
from edge_compress.graph.bridge.layers_out import write_module
from edge_compress.graph.bridge.sheet import Call, Origin, Shapes, Sheet
from edge_compress.graph.bridge.source import STANDARD
from edge_compress.graph.bridge.trial import tried
from edge_compress.graph.bridge.values import LENGTHS, Symbol, assignments, blank, input_shape, symbols_of

_FUNCTIONS: dict[Any, str] = {
    operator.add: "Add",
    torch.add: "Add",
    operator.sub: "Sub",
    operator.mul: "Mul",
    torch.mul: "Mul",
    operator.truediv: "Div",
    torch.relu: "Relu",
    torch.sigmoid: "Sigmoid",
}
"""calls that plugins put into a graph"""


def write(module: fx.GraphModule, like: onnx.ModelProto) -> onnx.ModelProto:
    """The module's graph as ONNX. Raises Unsupported for what has no form."""
    stored = {item.name for item in like.graph.initializer}
    inputs = [item for item in like.graph.input if item.name not in stored]
    shapes, symbols = _shapes(module, inputs)
    opset = next((item.version for item in like.opset_import if item.domain in STANDARD), 1)
    sheet = Sheet(opset, [item.name for item in inputs], symbols)
    sheet.taken.update(item.name for item in (*inputs, *like.graph.output))
    _Writer(module, sheet, shapes, [item.name for item in like.graph.output]).run()
    return _model(sheet, inputs, like)


class _Writer:
    """Node after node of the torch graph."""

    def __init__(self, module: fx.GraphModule, sheet: Sheet, shapes: dict[fx.Node, Any], outputs: Sequence[str]) -> None:
        self._module, self._sheet, self._shapes, self._outputs = module, sheet, shapes, outputs
        self._names: dict[fx.Node, tuple[str, ...]] = {}
        self._reserved = {*sheet.inputs, *outputs}
        self._last = dict(zip(_results(module), outputs, strict=True))

    def run(self) -> None:
        """Write everything."""
        inputs = iter(self._sheet.inputs)
        for node in self._module.graph.nodes:
            match node.op:
                case "placeholder":
                    self._names[node] = (next(inputs),)
                case "get_attr":
                    self._names[node] = (self._attribute(str(node.target)),)
                case "call_module":
                    self._call(node)
                case "call_function":
                    self._function(node)
                case "output":
                    self._finish()
                case _:
                    raise Unsupported(f"{node.name}: no ONNX form for a call of the method {node.target}")

    def _attribute(self, path: str) -> str:
        owner, _, name = path.rpartition(".")
        return self._sheet.parameter(getattr(self._module.get_submodule(owner), name), path)

    def _call(self, node: fx.Node) -> None:
        module = self._module.get_submodule(str(node.target))
        origin: Origin | None = node.meta.get("onnx")
        self._names[node] = self._made(node, origin)
        name = origin.template.proto.name if origin else ""
        write_module(module, self._describe(node, name or self._names[node][0], origin))

    def _describe(self, node: fx.Node, name: str, origin: Origin | None) -> Call:
        given = [item for item in node.args if isinstance(item, fx.Node)]
        names = tuple(self._names[item][0] if isinstance(item, fx.Node) else "" for item in node.args)
        made = self._shapes[node]
        out: tuple[Shapes, ...] = made if made and made[0] and isinstance(made[0][0], tuple) else (made,)
        return Call(self._sheet, name, names, self._names[node], tuple(self._shapes[item] for item in given), out, origin)

    def _made(self, node: fx.Node, origin: Origin | None) -> tuple[str, ...]:
        """Output names: the original's where they are free or are outputs of the model."""
        if origin is None:
            return (self._fresh(node),)
        return tuple(self._own(name) if name else "" for name in origin.outputs)

    def _fresh(self, node: fx.Node) -> str:
        """A name for what did not come from a file: that of the model's output where it is one."""
        return self._own(self._last[node]) if node in self._last else self._sheet.fresh(node.name)

    def _own(self, name: str) -> str:
        if name in self._reserved:
            self._reserved.discard(name)
            return name
        return self._sheet.fresh(name)

    def _function(self, node: fx.Node) -> None:
        first = node.args[0]
        if (isinstance(first, fx.Node) and len(self._names[first]) > 1) or _is_item(node):
            assert isinstance(first, fx.Node)
            self._names[node] = (self._names[first][node.args[1]],)  # type: ignore[index]  # the index of a part
            return
        form = _FUNCTIONS.get(node.target)
        if form is None or not all(isinstance(item, fx.Node) for item in node.args) or node.kwargs:
            raise Unsupported(f"{node.name}: no ONNX form for a call of {node.target}")
        self._names[node] = (self._fresh(node),)
        self._sheet.node(form, [self._sheet.plain(self._names[item][0]) for item in node.all_input_nodes], self._names[node])

    def _finish(self) -> None:
        for item, wanted in zip(_results(self._module), self._outputs, strict=True):
            name = self._sheet.plain(self._names[item][0])
            if name != wanted:
                self._sheet.node("Identity", [name], [wanted])


def _results(module: fx.GraphModule) -> list[fx.Node]:
    """What the graph gives, in order."""
    made: Any = next(node for node in module.graph.nodes if node.op == "output").args[0]
    return list(made) if isinstance(made, (tuple, list)) else [made]


def _is_item(node: fx.Node) -> bool:
    return node.target is operator.getitem


def _shapes(module: fx.GraphModule, inputs: Sequence[onnx.ValueInfoProto]) -> tuple[dict[fx.Node, Any], tuple[Symbol, ...]]:
    """The shape of each tensor in each probe. Raises Unsupported where the module does not run at all."""
    said = ""
    for length in LENGTHS:
        symbols = symbols_of(inputs, length, free_batch=False)
        try:
            return _probe(module, inputs, symbols), symbols
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise Unsupported(f"the module does not run on inputs like the original's: {said}")


def _probe(module: fx.GraphModule, inputs: Sequence[onnx.ValueInfoProto], symbols: Sequence[Symbol]) -> dict[fx.Node, Any]:
    training = {name: item.training for name, item in module.named_modules()}
    runs = []
    try:
        module.eval()
        for sizes in assignments(symbols):
            feeds = [
                blank(input_shape(item, index, sizes), torch_type(item.type.tensor_type.elem_type))
                for index, item in enumerate(inputs)
            ]
            runs.append(_Recorder(module).record(feeds))
    finally:
        for name, item in module.named_modules():
            item.training = training[name]
    return {node: _gather([run[node] for run in runs]) for node in runs[0]}


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps shapes only."""

    def record(self, feeds: Sequence[Tensor]) -> dict[fx.Node, Any]:
        """Shape by node; a tuple of shapes where a node gives several tensors, () where it gives numbers."""
        self.found: dict[fx.Node, Any] = {}
        with torch.no_grad():
            self.run(*feeds)
        return self.found

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As the base, without the arithmetic of convolutions."""
        return super().call_module(target, args, kwargs) if kwargs else tried(self.fetch_attr(target), *args)

    def run_node(self, n: fx.Node) -> Any:
        """As the base, with a note taken."""
        result = super().run_node(n)
        self.found[n] = _shape(result)
        return result


def _shape(result: Any) -> Any:
    if isinstance(result, Tensor):
        return tuple(result.shape)
    return [_shape(item) for item in result] if isinstance(result, (tuple, list)) else ()


def _gather(seen: Sequence[Any]) -> Any:
    if isinstance(seen[0], list):
        return tuple(tuple(run[index] for run in seen) for index in range(len(seen[0])))
    return tuple(seen)


def _model(sheet: Sheet, inputs: Sequence[onnx.ValueInfoProto], like: onnx.ModelProto) -> onnx.ModelProto:
    used = {name for node in sheet.nodes for name in node.input}
    constants = [tensor for name, tensor in sheet.constants.items() if name in used]
    graph = helper.make_graph(sheet.nodes, like.graph.name or "g", inputs, like.graph.output, constants)
    model = onnx.ModelProto(ir_version=max(like.ir_version, 4), producer_name=like.producer_name, graph=graph)
    model.opset_import.extend(item for item in like.opset_import if item.domain in STANDARD)
    model.metadata_props.extend(like.metadata_props)
    return model
