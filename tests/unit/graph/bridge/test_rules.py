"""Every rule against onnxruntime, one node at a time, in the forms that occur: both ways, byte for byte the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from edge_compress.graph.bridge import OPERATORS
from edge_compress.graph.bridge.importer import RULES
from tests.unit.graph.bridge.small_models import floats, hold, ints, single

X = {"x": floats(3, 4, 9, 8)}
POSITIVE = {"x": np.abs(floats(3, 4, 5)) + 0.1}
FLAT = {"x": floats(3, 6)}
SERIES = {"x": floats(3, 4, 11)}
SCALE = {"s": floats(4, seed=1), "b": floats(4, seed=2)}


def case(op, feeds, constants=None, **more):
    extra = {key: value for key, value in more.items() if key != "note"}
    return pytest.param(op, feeds, constants, extra, id="-".join([op, *(str(value) for value in more.values())])[:90])


CASES = [
    case("Conv", X, {"w": floats(6, 4, 3, 3, seed=1), "b": floats(6)}, pads=[1, 1, 1, 1]),
    case("Conv", X, {"w": floats(6, 4, 3, 3, seed=1)}, pads=[0, 1, 2, 0], strides=[2, 1]),
    case("Conv", X, {"w": floats(4, 1, 3, 3, seed=1)}, group=4, dilations=[2, 1]),
    case("Conv", X, {"w": floats(8, 2, 3, 2, seed=1)}, group=2, auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", X, {"w": floats(8, 4, 2, 3, seed=1)}, auto_pad="SAME_LOWER"),
    case("Conv", X, {"w": floats(8, 4, 2, 3, seed=1)}, auto_pad="VALID"),
    case("Conv", SERIES, {"w": floats(5, 4, 3, seed=1)}, pads=[2, 0], strides=[2]),
    case("Conv", {"x": floats(2, 2, 5, 6, 4)}, {"w": floats(3, 2, 2, 3, 3)}, pads=[0, 1, 1, 0, 1, 1]),
    case("ConvTranspose", X, {"w": floats(4, 3, 3, 3), "b": floats(3)}, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0]),
    case("ConvTranspose", SERIES, {"w": floats(4, 3, 4)}, strides=[2], group=2),
    case("BatchNormalization", X, {**SCALE, "m": floats(4, seed=3), "v": np.abs(floats(4)) + 0.1}, epsilon=1e-3),
    case("BatchNormalization", FLAT, {k: np.abs(floats(6, seed=i)) for i, k in enumerate("sbmv")}),
    case("InstanceNormalization", X, SCALE),
    case("GroupNormalization", X, SCALE, num_groups=2, opset=21),
    case("LayerNormalization", X, {"s": floats(8), "b": floats(8, seed=1)}),
    case("LayerNormalization", X, {"s": floats(9, 8)}, axis=2),
    case("LayerNormalization", X, {"s": floats(1), "b": floats(8, seed=1)}),
    case("RMSNormalization", X, {"s": floats(8)}, opset=23),
    case("LRN", X, size=3, alpha=0.02, beta=0.6, bias=1.5),
    case("Gemm", FLAT, {"w": floats(5, 6), "b": floats(5)}, transB=1),
    case("Gemm", FLAT, {"w": floats(6, 5), "b": floats(1, 5)}, alpha=0.5, beta=2.0),
    case("Gemm", FLAT, {"w": floats(6, 5), "b": np.float32(0.3)}),
    case("Gemm", FLAT, {"w": floats(6, 5)}),
    case("Gemm", {"x": floats(6, 3)}, {"w": floats(6, 5), "b": floats(3, 1)}, transA=1, free=()),
    case("MatMul", FLAT, {"w": floats(6, 5)}),
    case("MatMul", SERIES, {"w": floats(11, 5)}),
    case("MatMul", {"x": floats(3, 4, 5), "z": floats(3, 5, 2)}),
    case("MatMul", SERIES, {"w": floats(2, 4)}, order=["w", "x"]),
    case("MatMul", FLAT, {"w": floats(6)}),
    case("Gather", {"i": np.array([[0, 3, 2], [1, 1, 0]])}, {"t": floats(4, 5)}, order=["t", "i"]),
    case("Gather", X, {"i": ints(3, -1, 0)}, axis=1),
    case("Gather", X, {"i": np.int64(-2)}, axis=2),
    case("Gather", X, {"i": np.array([[0, 1], [2, 3]])}, axis=1),
    case("GatherElements", {**SERIES, "i": np.full((3, 4, 2), -1)}, axis=2),
    case("Einsum", {"x": floats(3, 4, 5), "z": floats(3, 5, 2)}, equation="bij,bjk->bik"),
    *(case(op, X) for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Identity", "Abs", "Neg", "Exp", "Erf", "Sign")),
    *(case(op, X) for op in ("Floor", "Ceil", "Round", "Sin", "Cos", "Atan", "Selu")),
    case("Mish", X, opset=18),
    case("HardSwish", X),
    *(case(op, POSITIVE) for op in ("Sqrt", "Log", "Reciprocal")),
    case("LeakyRelu", X, alpha=0.2),
    case("Elu", X, alpha=0.7),
    case("Celu", X, alpha=0.7),
    case("ThresholdedRelu", X, alpha=0.3),
    case("HardSigmoid", X, alpha=1 / 6, beta=0.5),
    case("HardSigmoid", X),
    case("Gelu", X, opset=20),
    case("Gelu", X, opset=20, approximate="tanh"),
    case("Swish", X, opset=24, alpha=1.0),
    case("PRelu", X, {"s": floats(4, 1, 1)}),
    case("PRelu", X, {"s": floats(1)}),
    case("PRelu", X, {"s": floats(9, 8)}),
    case("Clip", X, {"a": np.float32(0), "b": np.float32(6)}),
    case("Clip", X, {"b": np.float32(0.5)}, order=["x", "", "b"]),
    case("Clip", X, min=-0.5, max=0.25, opset=9),
    case("Clip", X, min=0.0, opset=9),
    case("Dropout", X),
    case("Dropout", X, {"r": np.float32(0.3)}),
    case("Softmax", X, axis=1),
    case("Softmax", X),
    case("Softmax", X, axis=1, opset=11),
    case("LogSoftmax", X, axis=2, opset=11),
    case("LogSoftmax", FLAT, axis=-1),
    case("MaxPool", X, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case("MaxPool", X, kernel_shape=[3, 2], pads=[0, 0, 1, 1], dilations=[2, 1]),
    case("MaxPool", SERIES, kernel_shape=[3], auto_pad="SAME_UPPER", strides=[2]),
    case("AveragePool", X, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", X, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", X, kernel_shape=[3, 3], pads=[0, 1, 2, 1], strides=[2, 2]),
    case("AveragePool", X, kernel_shape=[3, 3], pads=[0, 1, 2, 1], count_include_pad=1),
    case("GlobalAveragePool", X),
    case("GlobalMaxPool", SERIES),
    *(
        case(op, {"x": floats(3, 4), "z": floats(4, seed=1)}, free=())
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
    ),
    case("Max", {"a": floats(3, 4), "b": floats(3, 4, seed=1), "c": floats(3, 4, seed=2)}),
    case("Add", X, {"c": floats(4, 1, 1)}),
    case("Sub", X, {"c": floats(1, 4, 9, 8)}, order=["c", "x"]),
    case("Pow", POSITIVE, {"e": np.float32(1.5)}),
    case("Pow", X, {"e": np.int64(2)}),
    case("Div", {"x": np.array([[-7, 7, 5]])}, {"d": ints(2)}),
    case("Mod", {"x": np.array([[-7, 7, 5]])}, {"d": ints(3)}),
    case("Mod", X, {"d": np.float32(0.7)}, fmod=1),
    *(
        case(op, {"a": floats(3, 4), "b": floats(3, 4).round()})
        for op in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
    ),
    *(case(op, {"a": floats(3, 4) > 0, "b": floats(3, 4, seed=1) > 0}) for op in ("And", "Or", "Xor")),
    case("Not", {"a": floats(3, 4) > 0}),
    case("IsNaN", X),
    case("Where", {"c": floats(3, 4) > 0, "x": floats(3, 4), "z": floats(3, 4, seed=1)}),
    case("Where", {"c": floats(3, 4) > 0, "x": floats(3, 4)}, {"z": np.float32(-1e9)}),
    case("Cast", X, to=7),
    case("Cast", {"x": floats(3, 4) > 0}, to=1),
    case("CastLike", X, {"t": ints(1)}),
    *(
        case(op, POSITIVE, axes=[1], keepdims=0)
        for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd")
    ),
    *(case(op, POSITIVE, axes=[1, -1]) for op in ("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd")),
    case("ReduceMean", X, {"a": ints(2, 3)}, opset=18),
    case("ReduceMean", X, {"a": ints(-1)}, opset=18, keepdims=0),
    case("ReduceSum", X, {"a": ints(1)}, keepdims=0),
    case("ReduceSum", X, noop_with_empty_axes=1),
    case("ReduceMax", X, keepdims=1, free=()),
    case("ReduceSum", {"x": np.array([[1, 2, 3]])}, {"a": ints(1)}),
    case("ArgMax", X, axis=1, keepdims=0),
    case("ArgMin", X, axis=-1),
    case("CumSum", X, {"a": np.int64(2)}),
    case("Reshape", X, {"s": ints(-1, 288)}),
    case("Reshape", X, {"s": ints(0, 2, 2, -1)}),
    case("Reshape", X, {"s": ints(0, -1, 6)}),
    case("Reshape", {"x": floats(2, 6, 4)}, {"s": ints(-1, 4, 6)}),
    case("Reshape", {"x": floats(2, 6, 4)}, {"s": ints(-1, 4)}),
    case("Reshape", {"x": floats(4, 3)}, {"s": ints(-1)}),
    case("Reshape", {"x": floats(4, 3)}, {"s": ints(-1, 1, 3, 1)}),
    case("Flatten", X),
    case("Flatten", X, axis=2),
    case("Flatten", X, axis=0),
    case("Flatten", X, axis=-1),
    case("Transpose", X, perm=[0, 2, 3, 1]),
    case("Transpose", FLAT),
    case("Squeeze", {"x": floats(3, 1, 4, 1)}, {"a": ints(1, -1)}),
    case("Squeeze", {"x": floats(3, 1, 4, 1)}, axes=[3], opset=11),
    case("Squeeze", {"x": floats(3, 1, 4, 1)}),
    case("Unsqueeze", X, {"a": ints(-1, 1)}),
    case("Unsqueeze", X, axes=[0, 3], opset=11),
    case("Expand", {"x": floats(3, 1, 4)}, {"s": ints(1, 5, 1)}),
    case("Expand", {"x": floats(4)}, {"s": ints(2, 3, 4)}, free=()),
    case("Tile", X, {"r": ints(1, 2, 1, 3)}),
    case("Concat", {"a": floats(3, 2, 4), "b": floats(3, 5, 4)}, axis=1),
    case("Concat", {"a": floats(3, 2)}, {"c": floats(1, 2)}, axis=-1, free=(), order=["a", "a"]),
    case("Split", X, {"s": ints(1, 3)}, axis=1, outputs=("p", "q")),
    case("Split", X, axis=1, outputs=("p", "q")),
    case("Split", X, axis=1, outputs=("p", "q"), split=[3, 1], opset=11),
    case("Split", X, axis=2, outputs=("p", "q"), num_outputs=2, opset=18),
    case("Slice", X, {"b": ints(1, -3), "e": ints(4, 2**62), "a": ints(1, 3)}),
    case("Slice", X, {"b": ints(0), "e": ints(2**62), "a": ints(2), "t": ints(2)}),
    case("Slice", X, {"b": ints(-1), "e": ints(-(2**63)), "a": ints(1), "t": ints(-1)}),
    case("Slice", X, {"b": ints(7), "e": ints(1), "a": ints(2), "t": ints(-2)}),
    case("Slice", X, starts=[1, 0], ends=[3, -1], axes=[1, 2], opset=9),
    case("Pad", X, {"p": ints(0, 1, 0, 2, 0, 0, 1, 0)}),
    case("Pad", X, {"p": ints(0, 0, 1, 2, 0, 0, 1, 0), "v": np.float32(2)}),
    case("Pad", X, {"p": ints(0, 0, -1, -2, 0, 0, 1, 0)}),
    case("Pad", X, {"p": ints(0, 0, 1, 2, 0, 0, 1, 0)}, mode="reflect"),
    case("Pad", X, {"p": ints(0, 0, 1, 2, 0, 0, 1, 0)}, mode="edge"),
    case("Pad", X, {"p": ints(1, 2), "a": ints(-1)}, order=["x", "p", "", "a"], opset=18),
    case("Pad", X, pads=[0, 0, 1, 1, 0, 0, 2, 2], opset=9, value=1.5),
    case("DepthToSpace", X, blocksize=2),
    case("DepthToSpace", X, blocksize=2, mode="CRD"),
    case("SpaceToDepth", {"x": floats(3, 4, 6, 8)}, blocksize=2),
    case("Trilu", {"x": floats(3, 5, 5)}),
    case("Trilu", {"x": floats(3, 5, 5)}, {"k": np.int64(1)}, upper=0),
]


@pytest.mark.parametrize(("op", "feeds", "constants", "more"), CASES)
def test_one_node(op, feeds, constants, more):
    hold(single(op, feeds, constants, **more), feeds)


RESIZES = [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
    {"mode": "nearest"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
]


@pytest.mark.parametrize("settings", RESIZES, ids=str)
@pytest.mark.parametrize("scales", [(2, 2), (1.5, 0.6), (1, 3)], ids=str)
def test_resize_by_scales(settings, scales):
    constants = {"s": np.array([1, 1, *scales], np.float32)}
    hold(single("Resize", X, constants, order=["x", "", "s"], **settings), X)


@pytest.mark.parametrize("settings", RESIZES, ids=str)
def test_resize_by_sizes(settings):
    hold(single("Resize", X, {"s": ints(13, 8)}, order=["x", "", "", "s"], axes=[2, 3], opset=18, **settings), X)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode):
    hold(single("Upsample", X, {"s": np.array([1, 1, 2, 3], np.float32)}, mode=mode, opset=9), X)


def test_every_operator_is_listed():
    assert {*RULES, "Shape", "Size", "Constant"} == OPERATORS
