"""How torch's own layers are written in ONNX: by what they are now, so that pruned, replaced and new ones are written too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.sheet import Array, Call

Form = Callable[[Any, Call], None]

_PAIR = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TURNED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def _optional(layer: Any, call: Call, name: str) -> list[str]:
    tensor = getattr(layer, name)
    return [] if tensor is None else [call.weight(tensor, name)]


def conv(layer: Any, call: Call) -> None:
    """Conv, with the zeros that lie around its input as its own pads."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise Unsupported(f"{call.name}: padding {layer.padding!r} {layer.padding_mode}; expected numbers and zeros")
    source, around = call.sheet.padded.get(call.names[0], (call.names[0], (0,) * 2 * len(layer.padding)))
    pads = [own + more for own, more in zip((*layer.padding, *layer.padding), around, strict=True)]
    inputs = [source, call.weight(layer.weight, "weight"), *_optional(layer, call, "bias")]
    call.write("Conv", inputs, pads=pads, **_geometry(layer))


def conv_transpose(layer: Any, call: Call) -> None:
    """ConvTranspose."""
    inputs = [call.input(), call.weight(layer.weight, "weight"), *_optional(layer, call, "bias")]
    pads, extra = [*layer.padding, *layer.padding], {}
    if any(layer.output_padding):
        extra["output_padding"] = list(layer.output_padding)
    call.write("ConvTranspose", inputs, pads=pads, **extra, **_geometry(layer))


def _geometry(layer: Any) -> dict[str, Any]:
    return {
        "dilations": list(layer.dilation),
        "group": layer.groups,
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
    }


def linear(layer: Any, call: Call) -> None:
    """Gemm for matrices, MatMul and Add for the rest and where the original had them."""
    origin = call.origin.template.proto if call.origin else None
    gemm = origin.op_type == "Gemm" if origin is not None else True
    if gemm and len(call.shapes_in[0][0]) == 2:
        turned = origin is None or any(item.name == "transB" and item.i for item in origin.attribute)
        weight = call.weight(layer.weight, "weight", "Gemm" + str(turned), None if turned else np.transpose)
        call.write("Gemm", [call.input(), weight, *_optional(layer, call, "bias")], **({"transB": 1} if turned else {}))
        return
    weight = call.weight(layer.weight, "weight", "MatMul", np.transpose)
    if layer.bias is None:
        call.write("MatMul", [call.input(), weight])
        return
    between = call.sheet.fresh(origin.output[0] if origin is not None and not gemm else f"{call.outputs[0]}.product")
    call.sheet.node("MatMul", [call.input(), weight], [between], call.name)
    added = call.origin.bias.name if call.origin and call.origin.bias else f"{call.name}.bias"
    call.sheet.node("Add", [between, call.weight(layer.bias, "bias")], call.outputs, added or f"{call.name}.bias")


def batch_norm(layer: Any, call: Call) -> None:
    """BatchNormalization on the statistics gathered."""
    if layer.running_mean is None:
        raise Unsupported(f"{call.name}: a BatchNorm without running statistics")
    ones = torch.ones_like(layer.running_mean)
    scale, bias = (ones, torch.zeros_like(ones)) if layer.weight is None else (layer.weight, layer.bias)
    tensors = {"weight": scale, "bias": bias, "running_mean": layer.running_mean, "running_var": layer.running_var}
    inputs = [call.input(), *(call.weight(tensor, name) for name, tensor in tensors.items())]
    momentum = 1 - (0.1 if layer.momentum is None else layer.momentum)
    call.write("BatchNormalization", inputs, epsilon=layer.eps, momentum=round(momentum, 7))


def instance_norm(layer: Any, call: Call) -> None:
    """InstanceNormalization."""
    channels = call.shapes_in[0][0][1]
    scale, bias = (layer.weight, layer.bias) if layer.weight is not None else (torch.ones(channels), torch.zeros(channels))
    call.write(
        "InstanceNormalization", [call.input(), call.weight(scale, "weight"), call.weight(bias, "bias")], epsilon=layer.eps
    )


def group_norm(layer: nn.GroupNorm, call: Call) -> None:
    """GroupNormalization from opset 21 on, where its scale is one for each channel."""
    if call.sheet.opset < 21 or layer.weight is None:
        raise Unsupported(f"{call.name}: GroupNorm needs opset 21 and an affine")
    inputs = [call.input(), call.weight(layer.weight, "weight"), call.weight(layer.bias, "bias")]
    call.write("GroupNormalization", inputs, epsilon=layer.eps, num_groups=layer.num_groups)


def layer_norm(layer: nn.LayerNorm, call: Call) -> None:
    """LayerNormalization, from opset 17 on."""
    if call.sheet.opset < 17 or layer.weight is None:
        raise Unsupported(f"{call.name}: LayerNorm needs opset 17 and a scale")
    inputs = [call.input(), call.weight(layer.weight, "weight"), *_optional(layer, call, "bias")]
    call.write("LayerNormalization", inputs, axis=-len(layer.normalized_shape), epsilon=layer.eps)


def prelu(layer: nn.PReLU, call: Call) -> None:
    """PRelu, with the slopes along the channels."""
    after = len(call.shapes_in[0][0]) - 2 if layer.weight.numel() > 1 else 0
    form: Callable[[Array], Array] = lambda w: w.reshape(-1, *[1] * after)  # noqa: E731  # one use, beside what it is for
    call.write("PRelu", [call.input(), call.weight(layer.weight, "weight", f"slope{after}", form)])


def embedding(layer: nn.Embedding, call: Call) -> None:
    """Gather of rows."""
    call.write("Gather", [call.weight(layer.weight, "weight"), call.input()], axis=0)


def sequential(layer: nn.Sequential, call: Call) -> None:
    """One after the other."""
    shapes = call.shapes_in[0]
    name, parts = call.names[0], list(layer.named_children())
    if not parts:
        call.write("Identity", [call.input()])
    for place, (label, part) in enumerate(parts):
        trial = [torch.zeros(shape) for shape in shapes]
        after = tuple(tuple(part.eval()(item).shape) for item in trial)
        last = place == len(parts) - 1
        outputs = call.outputs if last else (call.sheet.fresh(f"{call.outputs[0]}.{label}"),)
        inner = Call(call.sheet, f"{call.name}.{label}", (name,), outputs, (shapes,), (after,))
        write_module(part, inner)
        name, shapes = outputs[0], after


def flatten(layer: nn.Flatten, call: Call) -> None:
    """Flatten to a matrix."""
    if layer.start_dim != 1 or layer.end_dim != -1:
        raise Unsupported(f"{call.name}: Flatten from axis {layer.start_dim} to {layer.end_dim}")
    call.write("Flatten", [call.input()], axis=1)


def pool(layer: Any, call: Call) -> None:
    """MaxPool and AveragePool."""
    rank = len(call.shapes_in[0][0]) - 2

    def each(value: Any) -> list[int]:
        return [value] * rank if isinstance(value, int) else list(value)

    pads = each(layer.padding) * 2
    settings: dict[str, Any] = {"kernel_shape": each(layer.kernel_size), "strides": each(layer.stride), "pads": pads}
    settings["ceil_mode"] = int(layer.ceil_mode)
    if isinstance(layer, (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)):
        call.write("MaxPool", [call.input()], dilations=each(layer.dilation), **settings)
    else:
        call.write("AveragePool", [call.input()], count_include_pad=int(layer.count_include_pad), **settings)


def global_average(layer: Any, call: Call) -> None:
    """GlobalAveragePool."""
    sizes = layer.output_size if isinstance(layer.output_size, tuple) else (layer.output_size,)
    if any(size != 1 for size in sizes):
        raise Unsupported(f"{call.name}: adaptive pooling to {sizes}; expected 1")
    call.write("GlobalAveragePool", [call.input()])


def _plain(operator: str, *attributes: str) -> Form:
    """A form of one operator; ``attributes``: ``onnx=torch`` names."""
    pairs = [item.split("=") for item in attributes]

    def write(layer: Any, call: Call) -> None:
        call.write(operator, [call.input()], **{ours: getattr(layer, theirs) for ours, theirs in pairs})

    return write


def clip6(_: nn.ReLU6, call: Call) -> None:
    """Clip from 0 to 6."""
    if call.sheet.opset < 11:
        call.write("Clip", [call.input()], min=0.0, max=6.0)
        return
    limits = [call.sheet.constant(np.array(value, np.float32), f"{call.name}.{value}") for value in (0, 6)]
    call.write("Clip", [call.input(), *limits])


def silu(_: nn.SiLU, call: Call) -> None:
    """x * sigmoid(x)."""
    gate = call.sheet.node("Sigmoid", [call.input()], [call.sheet.fresh(f"{call.outputs[0]}.gate")])
    call.write("Mul", [call.input(), gate])


FORMS: dict[type, Form] = {
    **dict.fromkeys(_PAIR, conv),
    **dict.fromkeys(_TURNED, conv_transpose),
    **dict.fromkeys(_NORMS, batch_norm),
    **dict.fromkeys(_INSTANCE, instance_norm),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), global_average),
    nn.Linear: linear,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
    nn.PReLU: prelu,
    nn.Embedding: embedding,
    nn.Sequential: sequential,
    nn.Flatten: flatten,
    nn.ReLU: _plain("Relu"),
    nn.ReLU6: clip6,
    nn.SiLU: silu,
    nn.Sigmoid: _plain("Sigmoid"),
    nn.Tanh: _plain("Tanh"),
    nn.Softplus: _plain("Softplus"),
    nn.LeakyReLU: _plain("LeakyRelu", "alpha=negative_slope"),
    nn.ELU: _plain("Elu", "alpha=alpha"),
    nn.Softmax: _plain("Softmax", "axis=dim"),
    nn.LogSoftmax: _plain("LogSoftmax", "axis=dim"),
    nn.Identity: _plain("Identity"),
    nn.Dropout: _plain("Identity"),
}
"""by exact type: a subclass may compute something else"""


def write_module(module: nn.Module, call: Call) -> None:
    """Write one module: as it says itself, as it was imported where it holds nothing to change, or by its type."""
    own = getattr(module, "emit_onnx", None)
    form = FORMS.get(type(module))
    origin = call.origin
    if own is not None:
        own(call)
    elif origin is not None and type(module) is origin.kind and not origin.weights:
        call.again(origin.template)
    elif form is not None:
        form(module, call)
    else:
        raise Unsupported(f"{call.name}: no ONNX form for {type(module).__name__}")
