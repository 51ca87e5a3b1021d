from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_lowrank.factors import Split, output_energy, split
from edge_compress_lowrank.layers import Layer, find_layers
from edge_compress_lowrank.moments import Accumulator, Moment, patches, shrunk
from edge_compress_lowrank.rewrite import rewrite
from edge_compress_lowrank.ways import WAYS, Channel, Spatial, Tucker
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

OUTPUTS, INPUTS, SIZE = 8, 6, 13
GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 5], "pads": [2, 1, 0, 3], "strides": [1, 2], "dilations": [2, 1]},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [4, 2], "auto_pad": "SAME_LOWER", "strides": [3, 2]},
    {"kernel_shape": [5, 3], "auto_pad": "VALID"},
    {"kernel_shape": [1, 1], "pads": [1, 0, 0, 1], "strides": [2, 2]},
]
FULL = (INPUTS, OUTPUTS)


def conv(geometry: dict[str, Any], *, bias: bool = True) -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((OUTPUTS, INPUTS, *geometry["kernel_shape"])).astype(np.float32)
    stored = [numpy_helper.from_array(weight, "w")]
    if bias:
        stored.append(numpy_helper.from_array(draw.standard_normal(OUTPUTS).astype(np.float32), "b"))
    node = helper.make_node("Conv", ["x", *(item.name for item in stored)], ["y"], **geometry)
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", INPUTS, SIZE, SIZE])
    exit_ = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", OUTPUTS, None, None])
    graph = helper.make_graph([node], "g", [entry], [exit_], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def correlated(count: int = 64) -> Array:
    """Images whose channels say much the same, with a mean that is not zero."""
    draw = np.random.default_rng(1)
    mixed = np.einsum("nchw,cd->ndhw", draw.standard_normal((count, 3, SIZE, SIZE)), draw.standard_normal((3, INPUTS)))
    return (mixed + 0.2 * draw.standard_normal(mixed.shape) + 1.5).astype(np.float32)


def run(model: onnx.ModelProto, samples: Array) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": samples})[0])


def replaced(model: onnx.ModelProto, layer: Layer, done: Split) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    rewrite(changed, {layer.key: (layer, done)})
    onnx.checker.check_model(changed, full_check=True)
    return changed


def observed(layer: Layer, samples: Array) -> Moment:
    sums = Accumulator(layer.matrix.shape[1])
    sums.add(patches(layer.window, samples, SIZE * SIZE, np.random.default_rng(0)))
    return sums.moment(centred=layer.takes_bias)


def lost(want: Array, got: Array) -> float:
    axes = (0, *range(2, want.ndim))
    return float(np.sum((got - want).astype(np.float64) ** 2) / np.sum((want - want.mean(axes, keepdims=True)) ** 2))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda item: f"{item['kernel_shape']}{item.get('auto_pad', '')}")
@pytest.mark.parametrize("kind", WAYS, ids=lambda item: item.name)
def test_with_nothing_cut_off_factors_compute_what_the_layer_did(kind: Any, geometry: dict[str, Any]) -> None:
    model, samples = conv(geometry), correlated(4)
    (layer,) = find_layers(model)
    if not kind.fits(layer):
        assert geometry["kernel_shape"] == [1, 1]
        return
    moment = observed(layer, samples)
    way = kind(layer, moment)
    ranks = FULL if kind is Tucker else way.choices(1)[-1]
    done = split(layer, moment, way, ranks, output_energy(layer, moment))
    want, got = run(model, samples), run(replaced(model, layer, done), samples)
    assert np.abs(got - want).max() <= 2e-4 * np.abs(want).max()
    assert done.lost <= 1e-6
    assert [factor.weight.shape for factor in done.factors] == [shape for shape, _ in kind.shapes(layer, ranks)]


@pytest.mark.parametrize(
    ("kind", "ranks"), [(Channel, (3,)), (Spatial, (4,)), (Tucker, (3, 4))], ids=["channel", "spatial", "tucker"]
)
def test_what_a_split_says_it_loses_is_lost_and_less_than_without_data(kind: Any, ranks: tuple[int, ...]) -> None:
    model, samples = conv(GEOMETRIES[0]), correlated()
    (layer,) = find_layers(model)
    want = run(model, samples)
    losses = []
    for moment in (observed(layer, samples), Moment.unknown(layer.matrix.shape[1])):
        done = split(layer, moment, kind(layer, moment), ranks, output_energy(layer, moment))
        losses.append(lost(want, run(replaced(model, layer, done), samples)))
        if moment.second is not None:
            assert done.lost == pytest.approx(losses[0], rel=0.05)
            got = run(replaced(model, layer, done), samples)
            assert np.abs((got - want).mean((0, 2, 3))).max() < 0.02 * want.std()
    assert losses[0] < 0.5 * losses[1]


def test_channels_between_factors_have_a_mean_square_of_one() -> None:
    model, samples = conv(GEOMETRIES[0]), correlated()
    (layer,) = find_layers(model)
    moment = observed(layer, samples)
    done = split(layer, moment, Channel(layer, moment), (4,), output_energy(layer, moment))
    changed = replaced(model, layer, done)
    changed.graph.output.append(helper.make_tensor_value_info(changed.graph.node[0].output[0], TensorProto.FLOAT, None))
    session = ort.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    between = session.run(None, {"x": samples})[1]
    assert np.allclose(between.std((0, 2, 3)), 1, atol=0.05)


def test_costs_are_those_of_the_operators() -> None:
    (layer,) = find_layers(conv(GEOMETRIES[1]))
    assert layer.macs([layer.whole]) == 6 * 6 * OUTPUTS * INPUTS * 9
    assert layer.macs(Channel.shapes(layer, (2,))) == 6 * 6 * 2 * (INPUTS * 9 + OUTPUTS)
    assert layer.macs(Spatial.shapes(layer, (2,))) == 6 * SIZE * 2 * INPUTS * 3 + 6 * 6 * 2 * OUTPUTS * 3
    assert layer.macs(Tucker.shapes(layer, (2, 3))) == SIZE * SIZE * 2 * INPUTS + 6 * 6 * (2 * 3 * 9 + 3 * OUTPUTS)


def test_a_covariance_from_few_samples_keeps_directions_it_did_not_see() -> None:
    draw = np.random.default_rng(0)
    spread = np.diag(np.linspace(0.5, 3, 40))
    few, many = (draw.standard_normal((count, 40)) @ spread for count in (10, 20_000))
    raw, better = few.T @ few / len(few), shrunk(few.T @ few / len(few), len(few))
    assert np.linalg.eigvalsh(raw)[0] < 1e-9 < 0.1 < np.linalg.eigvalsh(better)[0]
    assert np.linalg.norm(better - spread**2) < np.linalg.norm(raw - spread**2)
    assert np.allclose(shrunk(many.T @ many / len(many), len(many)), many.T @ many / len(many), atol=0.05)
    assert np.trace(better) == pytest.approx(np.trace(raw))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Accumulator(3).add(np.array([[1.0, np.nan, 2.0]], np.float32))
