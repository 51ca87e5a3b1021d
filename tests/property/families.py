"""Small random networks of every kind that devices run: images, sound, tokens, tables, sequences, and graphs with control flow.

``family`` draws one from a seed for an opset, with samples for it. Image networks are left to ``pictures``, how operators are
written to ``building``, and in what odd form the file comes to ``disguises``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from tests.property.building import CLASSES, SAMPLES, Array, Builder, Network, body, model_of, normal, value
from tests.property.pictures import any_size, image


def sound(b: Builder) -> Network:
    """One-dimensional convolutions over time."""
    x, channels, steps = "x", 4, 16
    for stride in (1, 2):
        attributes = {"pads": [1, 1], "strides": [stride]}
        x = b.add("Conv", x, b.weight(8, channels, 3, fan_in=channels * 3), b.vector(8), **attributes)
        x, channels = b.add("Relu", x), 8
        x = b.add("Conv", x, b.weight(8, 1, 3, fan_in=3), group=8, pads=[1, 1])
    x = b.add("MaxPool", x, kernel_shape=[2], strides=[2])
    y = b.linear(b.add("Flatten", x), 8 * steps // 4, CLASSES, flat=True)
    return Network(model_of(b, [value("x", ["N", 4, steps])], [value(y, ["N", CLASSES])]), {"x": normal(b, 4, steps)})


def tokens(b: Builder) -> Network:
    """Two attention blocks over integer tokens; keys, queries and values from one product, and a mask as a second input."""
    words, length, width, heads = 12, 6, 16, 2
    x = b.add("Gather", b.weight(words, width, fan_in=2), "ids")
    x = b.add("Add", x, b.constant(b.draw.standard_normal((length, width)) * 0.1))
    masked = b.draw.random() < 0.5
    ahead = b.constant(np.triu(np.full((length, length), -np.inf), 1)) if b.draw.random() < 0.5 else ""
    for _ in range(2):
        x = b.add("Add", x, _attention(b, b.layer_norm(x, width), length, width, heads, masked, ahead))
        hidden = b.gelu(b.linear(b.layer_norm(x, width), width, 2 * width, flat=False))
        x = b.add("Add", x, b.linear(hidden, 2 * width, width, flat=False))
    y = b.linear(b.mean(x, 1, keepdims=0), width, CLASSES, flat=True)
    inputs = [value("ids", ["N", length], TensorProto.INT64)]
    samples: dict[str, Array] = {"ids": b.draw.integers(0, words, (SAMPLES, length))}
    if masked:
        inputs.append(value("mask", ["N", 1, 1, length]))
        samples["mask"] = np.where(b.draw.random((SAMPLES, 1, 1, length)) < 0.8, 0, -30).astype(np.float32)
    return Network(model_of(b, inputs, [value(y, ["N", CLASSES])]), samples)


def _attention(b: Builder, x: str, length: int, width: int, heads: int, masked: bool, ahead: str) -> str:
    shape = b.ints(0, length, heads, width // heads)
    perms = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    parts = b.split(b.linear(x, width, 3 * width, flat=False), [width] * 3, 2)
    q, k, v = (b.add("Transpose", b.add("Reshape", part, shape), perm=perm) for part, perm in zip(parts, perms, strict=True))
    scores = b.add("Mul", b.add("MatMul", q, k), b.constant(1 / np.sqrt(width // heads)))
    if masked:
        scores = b.add("Add", scores, "mask")
    if ahead:
        scores = b.add("Add", scores, ahead)
    weights = b.add("Softmax", scores, axis=-1 if b.opset >= 11 else 3)
    mixed = b.add("Transpose", b.add("MatMul", weights, v), perm=[0, 2, 1, 3])
    return b.linear(b.add("Reshape", mixed, b.ints(0, length, width)), width, width, flat=False)


def table(b: Builder) -> Network:
    """Numbers and a category in; scores, probabilities and the chosen class out."""
    embedded = b.add("Gather", b.weight(7, 4, fan_in=2), "kind")
    x = b.add("Concat", "numbers", b.squeeze(embedded, 1), axis=1)
    for wide, out in ((12, 16), (16, 16)):
        x = b.add("Relu", b.linear(x, wide, out, flat=True))
    y = b.linear(x, 16, CLASSES, flat=True)
    sure = b.add("Softmax", y, axis=1)
    best = b.add("ArgMax", y, axis=1, keepdims=0)
    inputs = [value("numbers", ["N", 8]), value("kind", ["N", 1], TensorProto.INT64)]
    outputs = [value(y, ["N", CLASSES]), value(sure, ["N", CLASSES]), value(best, ["N"], TensorProto.INT64)]
    return Network(model_of(b, inputs, outputs), {"numbers": normal(b, 8), "kind": b.draw.integers(0, 7, (SAMPLES, 1))})


def sequence(b: Builder) -> Network:
    """A recurrent layer over time, one way or both, and a dense layer on its last state."""
    op, gates = (("GRU", 3), ("LSTM", 4), ("RNN", 1))[int(b.draw.integers(3))]
    both, steps, wide, hidden = bool(b.draw.random() < 0.4), 7, 6, 8
    ways = 2 if both else 1
    weights = [b.weight(ways, gates * hidden, size, fan_in=size) for size in (wide, hidden)]
    inputs = [
        b.add("Transpose", "x", perm=[1, 0, 2]),
        *weights,
        b.constant(b.draw.uniform(-0.3, 0.3, (ways, 2 * gates * hidden))),
    ]
    reset = {"linear_before_reset": int(b.draw.integers(2))} if op == "GRU" else {}
    way = "bidirectional" if both else "forward"
    last = b.several(op, inputs, 2, hidden_size=hidden, direction=way, **reset)[1]
    flat = b.add("Reshape", b.add("Transpose", last, perm=[1, 0, 2]), b.ints(-1, ways * hidden))
    y = b.linear(flat, ways * hidden, CLASSES, flat=True)
    return Network(model_of(b, [value("x", ["N", steps, wide])], [value(y, ["N", CLASSES])]), {"x": normal(b, steps, wide)})


def branching(b: Builder) -> Network:
    """If: another dense layer on each side, chosen by the data."""
    x = b.add("Relu", b.linear("x", 8, 12, flat=True))
    total = b.add("ReduceMax", b.add("Abs", "x"), keepdims=0)
    sides = {}
    for side in ("then_branch", "else_branch"):
        inner = Builder(b.draw, b.opset, b.in_nodes, prefix=f"{side}/")
        made = inner.linear(x, 12, CLASSES, flat=True)
        sides[side] = body(inner, side, [], [value(made, None)])
    y = b.add("If", b.add("Less", total, b.constant(2.0)), **sides)
    late = b.linear(y, CLASSES, CLASSES, flat=True)
    outputs = [value(late, ["N", CLASSES])]
    return Network(model_of(b, [value("x", ["N", 8])], outputs), {"x": normal(b, 8)})


def looping(b: Builder) -> Network:
    """Loop: the same dense layer three times."""
    x = b.linear("x", 8, 12, flat=True)
    inner = Builder(b.draw, b.opset, b.in_nodes, prefix="body/")
    made = inner.add("Relu", inner.linear("body/carried", 12, 12, flat=True))
    going = inner.add("Identity", "body/going")
    taken = [value("body/turn", [], TensorProto.INT64), value("body/going", [], TensorProto.BOOL), value("body/carried", None)]
    given = [value(going, [], TensorProto.BOOL), value(made, None)]
    state = b.add("Loop", b.constant(3, np.int64), "", x, body=body(inner, "body", taken, given))
    y = b.linear(state, 12, CLASSES, flat=True)
    return Network(model_of(b, [value("x", ["N", 8])], [value(y, ["N", CLASSES])]), {"x": normal(b, 8)})


def scanning(b: Builder) -> Network:
    """Scan over time with a state, the way some exporters write recurrence."""
    inner = Builder(b.draw, b.opset, b.in_nodes, prefix="scan/")
    both = inner.add("Add", inner.linear("scan/step", 6, 8, flat=True), inner.linear("scan/state", 8, 8, flat=True))
    state = inner.add("Tanh", both)
    kept = inner.add("Identity", state)
    taken, given = [value("scan/state", None), value("scan/step", None)], [value(state, None), value(kept, None)]
    first = b.linear(b.mean("x", 1, keepdims=0), 6, 8, flat=True)
    outs = b.several(
        "Scan", [first, b.add("Transpose", "x", perm=[1, 0, 2])], 2, num_scan_inputs=1, body=body(inner, "scan", taken, given)
    )
    y = b.linear(outs[0], 8, CLASSES, flat=True)
    return Network(model_of(b, [value("x", ["N", 5, 6])], [value(y, ["N", CLASSES])]), {"x": normal(b, 5, 6)})


FAMILIES: dict[str, Callable[[Builder], Network]] = {
    make.__name__: make for make in (image, any_size, sound, tokens, table, sequence, branching, looping, scanning)
}


def family(name: str, seed: int, opset: int) -> Network:
    """A network of that kind; equal arguments give equal bytes."""
    draw = np.random.default_rng([seed, opset])
    in_nodes, shared = (float(draw.choice([0.0, share])) for share in (0.4, 0.6))
    return FAMILIES[name](Builder(draw, opset, in_nodes, shared))
