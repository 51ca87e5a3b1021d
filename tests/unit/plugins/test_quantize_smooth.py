from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_quantize.smooth import spots
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from edge_compress_quantize.wiring import Wiring
from onnx import TensorProto, helper, numpy_helper

from tests.unit.plugins.array_context import ArrayContext

Array = np.ndarray[Any, Any]

WIDTH = 32


def samples(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((64, 6, WIDTH)).astype(np.float32)


def normalised(*, written_out: bool = False, outlier: float = 80.0, also: bool = False) -> onnx.ModelProto:
    """A normalisation with two loud channels, read by two matrix products whose results are added."""
    draw = np.random.default_rng(1)
    gamma = draw.uniform(0.5, 1.5, WIDTH).astype(np.float32)
    gamma[[3, 17]] *= outlier
    stored = {"gamma": gamma, "beta": (0.1 * gamma).astype(np.float32), "epsilon": np.array(1e-5, np.float32)}
    stored |= {name: (draw.standard_normal((WIDTH, 16)) / WIDTH).astype(np.float32) for name in ("q.w", "k.w")}
    for name in ("q.w", "k.w"):
        stored[name][[3, 17]] /= outlier
    if written_out:
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[-1]),
            helper.make_node("Sub", ["x", "m"], ["c"]),
            helper.make_node("Mul", ["c", "c"], ["cc"]),
            helper.make_node("ReduceMean", ["cc"], ["v"], axes=[-1]),
            helper.make_node("Add", ["v", "epsilon"], ["ve"]),
            helper.make_node("Sqrt", ["ve"], ["sd"]),
            helper.make_node("Div", ["c", "sd"], ["n"]),
            helper.make_node("Mul", ["n", "gamma"], ["g"]),
            helper.make_node("Add", ["g", "beta"], ["h"]),
        ]
    else:
        nodes = [helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["h"], axis=-1)]
    nodes += [helper.make_node("MatMul", ["h", f"{name}.w"], [name], name=name) for name in ("q", "k")]
    nodes.append(helper.make_node("Tanh", ["q"], ["t"]))
    nodes.append(helper.make_node("Add", ["t", "k"], ["y"]))
    if also:
        nodes.append(helper.make_node("Tanh", ["h"], ["aside"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, 16])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs(model: onnx.ModelProto) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": samples(9)})[0])


def noise(folder: Path, model: onnx.ModelProto, alpha: float) -> float:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    context = ArrayContext({"x": samples()}, scratch=folder)
    changed = QuantizeStatic().apply(copy, StaticParams(smooth=alpha), context)
    wanted = outputs(model)
    return float(np.square(outputs(changed) - wanted).mean() / wanted.var())


@pytest.mark.parametrize("written_out", [False, True])
def test_outliers_after_a_normalisation_cost_far_less(tmp_path: Path, written_out: bool) -> None:
    model = normalised(written_out=written_out)
    assert noise(tmp_path, model, 0.5) < 0.3 * noise(tmp_path, model, 0.0)


def test_without_outliers_nothing_is_moved(tmp_path: Path) -> None:
    model = normalised(outlier=1.0)
    assert noise(tmp_path, model, 0.5) == noise(tmp_path, model, 0.0)


def test_every_reader_must_be_a_product() -> None:
    assert [len(spot.products) for spot in spots(Wiring(normalised().graph))] == [2]
    assert not spots(Wiring(normalised(also=True).graph))


def test_weights_that_others_share_stay_as_they_are() -> None:
    model = normalised()
    model.graph.node.append(helper.make_node("MatMul", ["x", "q.w"], ["twin"]))
    assert not spots(Wiring(model.graph))
