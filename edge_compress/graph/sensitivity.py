"""How much each layer alone hurts a model's answers when it is computed with few bits.

One layer at a time gets weights of 4 bits (symmetric, a range per output channel) and an input of 8 bits (range of each sample);
everything before it is computed once, so that only the tail of the graph runs again. The measure is the error of the outputs
relative to their own size, as in HAWQ's and NNCF's perturbation scans. It ranks layers; what a whole quantised model loses is
left to measuring it. Models below opset 11 have no DynamicQuantizeLinear: there the weights alone are perturbed.
Which layers are worth it is left to ``domain.layers.effort``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_compress.graph.tidy import tidied
from edge_compress.graph.walk import uses

WEIGHT_BITS = 4
MOST_RECORDED_BYTES = 256 * 2**20
"""of activations that are kept while the layers are tried"""
_DYNAMIC_OPSET = 11

Array = np.ndarray[Any, Any]
Feed = Mapping[str, Array]


def sensitivities(
    model: onnx.ModelProto, feeds: Sequence[Feed], names: Iterable[str], stop: Callable[[], bool] = lambda: False
) -> dict[str, float]:
    """Relative error of the answers by layer name; layers whose weights are not stored as floats are left out.

    ``feeds`` are samples with a batch of one (or the model's fixed one). ``stop`` is asked before each layer; the last come
    first, for the shorter the tail the cheaper the layer. Raises onnxruntime's own errors where it cannot run the model.
    """
    probe = _Probe(tidied(model), feeds, set(names))
    found = {}
    for name, at in reversed(probe.places.items()):
        if stop():
            break
        if (value := probe.error(at)) is not None:
            found[name] = value
    return found


class _Probe:
    """A model with its activations on some samples, of which one layer at a time can be changed."""

    def __init__(self, model: onnx.ModelProto, feeds: Sequence[Feed], names: set[str]) -> None:
        self._model, self._nodes = model, list(model.graph.node)
        self._held = {item.name: item for item in model.graph.initializer}
        self._outputs = [item.name for item in model.graph.output]
        named = [(node.name or node.output[0], at) for at, node in enumerate(self._nodes)]
        self.places = {name: at for name, at in named if name in names and self._few_bits(self._nodes[at])}
        for node in self._nodes:
            node.ClearField("name")  # onnxruntime refuses two nodes of one name, though nothing refers to them
        self._opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 1)
        self._recorded = self._record(feeds)

    def error(self, at: int) -> float | None:
        """The largest relative error over the outputs when node ``at`` is perturbed; None where no output is a number."""
        wanted = [name for name in self._outputs if name in self._made_from(at)]
        entries = sorted(self._entries(at))
        session = _session(self._tail(at, entries, wanted))
        wrong, size = np.zeros(len(wanted)), np.zeros(len(wanted))
        for values in self._recorded:
            got = session.run(wanted, {name: values[name] for name in entries})
            for index, (name, value) in enumerate(zip(wanted, got, strict=True)):
                off, own = _squares(value, values[name])
                wrong[index] += off
                size[index] += own
        errors = [math.sqrt(off / own) for off, own in zip(wrong, size, strict=True) if own > 0]
        return max(errors, default=None)

    def _record(self, feeds: Sequence[Feed]) -> list[dict[str, Array]]:
        """What the tails read and the outputs, sample by sample, as long as there is room."""
        read = set().union(*(self._entries(at) for at in self.places.values())) if self.places else set()
        made = {name for node in self._nodes for name in node.output}
        wanted = sorted((read & made) | set(self._outputs))
        session = _session(_with_outputs(self._model, wanted))
        recorded: list[dict[str, Array]] = []
        room = MOST_RECORDED_BYTES
        for feed in feeds:
            values = {**feed, **dict(zip(wanted, session.run(wanted, dict(feed)), strict=True))}
            room -= sum(value.nbytes for value in values.values())
            if recorded and room < 0:
                break
            recorded.append(values)
        return recorded

    def _made_from(self, at: int) -> set[str]:
        return {name for node in self._nodes[at:] for name in node.output if name}

    def _entries(self, at: int) -> set[str]:
        """Names that the nodes from ``at`` on read and that neither they nor stored tensors provide."""
        read = {name for node in self._nodes[at:] for name in uses(node)}
        return read - self._made_from(at) - set(self._held)

    def _tail(self, at: int, entries: Sequence[str], wanted: Sequence[str]) -> bytes:
        changed, extra, new = self._perturbed(at)
        nodes = [*extra, changed, *self._nodes[at + 1 :]]
        read = {name for node in nodes for name in uses(node)}
        stored = [item for name, item in self._held.items() if name in read]
        sample = self._recorded[0]
        inputs = [_typed(name, sample[name]) for name in entries]
        outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
        graph = helper.make_graph(nodes, "tail", inputs, outputs, [*stored, *new])
        opsets = list(self._model.opset_import)
        tail = helper.make_model(graph, opset_imports=opsets, ir_version=self._model.ir_version)
        return bytes(tail.SerializeToString())

    def _perturbed(self, at: int) -> tuple[onnx.NodeProto, list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The node with few bits, the nodes that round its input, and its new weights."""
        node = onnx.NodeProto()
        node.CopyFrom(self._nodes[at])
        weights = self._few_bits(node)
        for index in weights:
            node.input[index] += "/few_bits"
        data = next((index for index, name in enumerate(node.input) if self._is_activation(name)), None)
        if data is None or self._opset < _DYNAMIC_OPSET:
            return node, [], list(weights.values())
        source = node.input[data]
        rounded = [f"{source}/rounded/{part}" for part in ("whole", "scale", "zero", "back")]
        node.input[data] = rounded[-1]
        extra = [
            helper.make_node("DynamicQuantizeLinear", [source], rounded[:3]),
            helper.make_node("DequantizeLinear", rounded[:3], rounded[3:]),
        ]
        return node, extra, list(weights.values())

    def _is_activation(self, name: str) -> bool:
        value = self._recorded[0].get(name)
        return name not in self._held and value is not None and value.dtype == np.float32 and value.ndim > 0

    def _few_bits(self, node: onnx.NodeProto) -> dict[int, onnx.TensorProto]:
        """The node's stored matrices by input index, rounded."""
        found = {}
        for index, name in enumerate(node.input):
            stored = self._held.get(name)
            if stored is not None and len(stored.dims) > 1 and stored.data_type in (1, 10, 11):
                values = numpy_helper.to_array(stored)
                found[index] = numpy_helper.from_array(_rounded(values, _output_axis(node, values.ndim)), f"{name}/few_bits")
        return found


def _rounded(values: Array, axis: int) -> Array:
    """Symmetric rounding with one range per index of ``axis``."""
    others = tuple(at for at in range(values.ndim) if at != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True).astype(np.float64)
    step = np.where(largest > 0, largest, 1.0) / (2 ** (WEIGHT_BITS - 1) - 1)
    return np.asarray(np.round(values / step) * step).astype(values.dtype)


def _output_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of a weight that counts what the node gives."""
    turned = any(item.name == "transB" and item.i for item in node.attribute)
    if node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not turned):
        return 1
    return rank - 1 if "MatMul" in node.op_type else 0


def _squares(value: Array, reference: Array) -> tuple[float, float]:
    """Sums of squares of the difference and of the reference, where both are finite numbers; 0, 0 for what is no float or of
    another shape."""
    if reference.dtype.kind != "f" or value.shape != reference.shape:
        return 0.0, 0.0
    got, want = value.astype(np.float64), reference.astype(np.float64)
    sound = np.isfinite(got) & np.isfinite(want)
    return float(((got[sound] - want[sound]) ** 2).sum()), float((want[sound] ** 2).sum())


def _typed(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _with_outputs(model: onnx.ModelProto, wanted: Sequence[str]) -> bytes:
    told = onnx.ModelProto()
    told.CopyFrom(model)
    own = {item.name for item in told.graph.output}
    told.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name not in own)
    return bytes(told.SerializeToString())


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
