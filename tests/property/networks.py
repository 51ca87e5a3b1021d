"""Small random networks that really occur in pieces: drawn from a seed, valid for a given opset, finite on their own data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

SAMPLES = 24


@dataclass
class Network:
    """A model under construction. ``tensor`` is the newest, of ``channels`` x ``size`` x ``size``."""

    draw: np.random.Generator
    opset: int
    channels: int
    size: int
    tensor: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    weights: dict[tuple[int, ...], str] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def constant(self, value: Array) -> str:
        """An initializer, or now and then a Constant node."""
        if self.draw.random() < 0.3:
            return self.add("Constant", [], value=numpy_helper.from_array(value, ""))
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def kernel(self, *shape: int) -> str:
        """Weights scaled so that activations keep their size; now and then those of an earlier layer."""
        if shape in self.weights and self.draw.random() < 0.5:
            return self.weights[shape]
        fan_in = int(np.prod(shape[1:]))
        spread = self.draw.uniform(0.3, 2.0, (shape[0], *[1] * (len(shape) - 1)))
        values = self.draw.standard_normal(shape) * spread / np.sqrt(fan_in)
        self.weights[shape] = self.constant(values.astype(np.float32))
        return self.weights[shape]

    def vector(self, length: int) -> Array:
        return (0.3 * self.draw.standard_normal(length)).astype(np.float32)


def conv(net: Network) -> None:
    out = int(net.draw.choice([4, 6, 8]))
    inputs = [net.tensor, net.kernel(out, net.channels, 3, 3)]
    if net.draw.random() < 0.7:
        inputs.append(net.constant(net.vector(out)))
    net.tensor, net.channels = net.add("Conv", inputs, pads=[1, 1, 1, 1]), out


def strided(net: Network) -> None:
    if net.size < 4:
        return
    net.tensor = net.add("Conv", [net.tensor, net.kernel(8, net.channels, 3, 3)], strides=[2, 2], pads=[1, 1, 1, 1])
    net.channels, net.size = 8, (net.size + 1) // 2


def depthwise(net: Network) -> None:
    inputs = [net.tensor, net.kernel(net.channels, 1, 3, 3), net.constant(net.vector(net.channels))]
    net.tensor = net.add("Conv", inputs, group=net.channels, pads=[1, 1, 1, 1])


def batch_norm(net: Network) -> None:
    conv(net)
    scale = net.constant(net.draw.uniform(0.5, 2, net.channels).astype(np.float32))
    rest = [net.constant(net.vector(net.channels)) for _ in range(2)]
    variance = net.constant(net.draw.uniform(0.5, 2, net.channels).astype(np.float32))
    net.tensor = net.add("BatchNormalization", [net.tensor, scale, *rest, variance])


def activation(net: Network) -> None:
    op = str(net.draw.choice(["Relu", "Clip", "Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh", "HardSwish"]))
    if op == "Clip":
        limits = [net.constant(np.array(value, np.float32)) for value in (0.0, float(net.draw.choice([1.0, 6.0])))]
        net.tensor = net.add("Clip", [net.tensor, *limits])
    else:
        net.tensor = net.add("Relu" if op == "HardSwish" and net.opset < 14 else op, [net.tensor])


def residual(net: Network) -> None:
    kept, channels = net.tensor, net.channels
    inner = net.add("Conv", [kept, net.kernel(channels, channels, 3, 3)], pads=[1, 1, 1, 1])
    net.tensor = net.add("Relu", [net.add("Add", [inner, kept])])


def branches(net: Network) -> None:
    parts = [net.add("Conv", [net.tensor, net.kernel(4, net.channels, 1, 1)]) for _ in range(2)]
    net.tensor, net.channels = net.add("Concat", [net.add("Relu", [parts[0]]), parts[1]], axis=1), 8


def gate(net: Network) -> None:
    """Squeeze and excite."""
    pooled = net.add("GlobalAveragePool", [net.tensor])
    scale = net.add("Sigmoid", [net.add("Conv", [pooled, net.kernel(net.channels, net.channels, 1, 1)])])
    net.tensor = net.add("Mul", [net.tensor, scale])


def pool(net: Network) -> None:
    if net.size < 4:
        return
    op = str(net.draw.choice(["MaxPool", "AveragePool"]))
    net.tensor, net.size = net.add(op, [net.tensor], kernel_shape=[2, 2], strides=[2, 2]), net.size // 2


def padded(net: Network) -> None:
    """Pad, then cut out: as shortcuts of residual networks do."""
    pads = net.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    wide = net.add("Pad", [net.tensor, pads])
    limits = [net.constant(np.array(value, np.int64)) for value in ([1, 1], [net.size + 1, net.size + 1], [2, 3])]
    net.tensor = net.add("Slice", [wide, *limits])


def scaled(net: Network) -> None:
    factor = net.constant(net.draw.uniform(0.5, 1.5, (1, net.channels, 1, 1)).astype(np.float32))
    net.tensor = net.add("Mul", [net.tensor, factor])


BLOCKS = (conv, strided, depthwise, batch_norm, activation, residual, branches, gate, pool, padded, scaled)


def head(net: Network) -> list[onnx.ValueInfoProto]:
    """Flat features, one or two matrix products, one or two outputs."""
    flat = net.add("Flatten", [net.tensor])
    width = net.channels * net.size * net.size
    hidden = net.add("Gemm", [flat, net.kernel(10, width), net.constant(net.vector(10))], transB=1)
    product = net.add("MatMul", [net.add("Relu", [hidden]), net.constant(net.draw.standard_normal((10, 5)).astype(np.float32))])
    net.nodes.append(helper.make_node("Add", [product, net.constant(net.vector(5))], ["y"], name="last"))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])]
    if net.draw.random() < 0.3:
        outputs.append(helper.make_tensor_value_info(net.tensor, TensorProto.FLOAT, ["N", net.channels, net.size, net.size]))
    return outputs


def network(seed: int, opset: int, *, batch: int | str = "N") -> tuple[onnx.ModelProto, Array]:
    """A model with input ``x`` and output ``y`` (and sometimes the features), and samples for it."""
    draw = np.random.default_rng(seed)
    channels, size = int(draw.choice([1, 3, 4])), int(draw.choice([6, 8]))
    net = Network(draw, opset, channels, size)
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, size, size])
    conv(net)
    for index in draw.integers(0, len(BLOCKS), int(draw.integers(2, 7))):
        BLOCKS[index](net)
    outputs = head(net)
    if batch != "N":
        for item in outputs:
            item.type.tensor_type.shape.dim[0].dim_value = int(batch)
    graph = helper.make_graph(net.nodes, "random", [entry], outputs, net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 20 else 10)
    onnx.checker.check_model(model, full_check=True)
    return model, draw.standard_normal((SAMPLES, channels, size, size)).astype(np.float32)
