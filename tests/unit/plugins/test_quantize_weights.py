from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from edge_compress_quantize.float16 import Float16Params, QuantizeFloat16
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from edge_compress_quantize.weights import QuantizeWeights, WeightsParams
from onnx import TensorProto, helper, numpy_helper

from edge_compress.plugin import DeviceProfileSpec, ModelFacts
from tests.unit.plugins.array_context import ArrayContext

Array = np.ndarray[Any, Any]

IMAGES = np.random.default_rng(3).standard_normal((20, 8, 10, 10)).astype(np.float32)


def weights(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], entry: onnx.ValueInfoProto, *, opset: int = 17
) -> onnx.ModelProto:
    leaving = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [entry], [leaving], stored)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    )


def convolutions(*, opset: int = 17, gain: float = 1.0) -> onnx.ModelProto:
    """Two convolutions and a transposed one; ``gain`` multiplies what the second sees."""
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 10, 10])
    nodes = [
        helper.make_node("Conv", ["x", "a", "a.b"], ["h"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], name="between"),
        helper.make_node("Mul", ["r", "gain"], ["g"], name="louder"),
        helper.make_node("Conv", ["g", "b"], ["i"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Div", ["i", "gain"], ["j"], name="quieter"),
        helper.make_node("ConvTranspose", ["j", "c"], ["y"], name="third"),
    ]
    constants = {"a": weights(16, 8, 3, 3), "a.b": weights(16), "b": weights(33, 16, 3, 3), "c": weights(33, 5, 3, 3)}
    return model_of(nodes, {**constants, "gain": np.array(gain, np.float32)}, entry, opset=opset)


def embedded() -> onnx.ModelProto:
    """A table of words, averaged, and a matrix product."""
    entry = helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 7])
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    return model_of(nodes, {"table": weights(300, 32), "w": weights(32, 4)}, entry)


def run(model: onnx.ModelProto, samples: Array, saved: Path | None = None) -> Array:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if saved:
        options.optimized_model_filepath = str(saved)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": samples})[0])


def run_ops(model: onnx.ModelProto, samples: Array, folder: Path) -> Counter[str]:
    run(model, samples, folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def error(before: onnx.ModelProto, after: onnx.ModelProto, samples: Array) -> float:
    wanted, got = run(before, samples), run(after, samples)
    return float(np.sqrt(np.mean((wanted - got) ** 2)) / np.std(wanted))


def small(model: onnx.ModelProto, folder: Path, **params: Any) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return QuantizeWeights().apply(copy, WeightsParams(**params), ArrayContext({}, scratch=folder))


def half(model: onnx.ModelProto, folder: Path, data: Array = IMAGES, **params: Any) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return QuantizeFloat16().apply(copy, Float16Params(**params), ArrayContext({"x": data}, scratch=folder))


@pytest.mark.parametrize(("params", "ratio", "largest"), [({}, 3.3, 0.02), ({"bits": 4, "narrow_from": 1}, 5.2, 0.25)])
def test_files_shrink_and_the_runtime_expands_them_when_it_loads(
    tmp_path: Path, params: dict[str, Any], ratio: float, largest: float
) -> None:
    model = convolutions()
    changed = small(model, tmp_path, **params)
    assert model.ByteSize() / changed.ByteSize() > ratio
    assert error(model, changed, IMAGES) < largest
    left = run_ops(changed, IMAGES, tmp_path)
    assert not {"Cast", "BitShift", "DequantizeLinear"} & set(left)


@pytest.mark.parametrize("bits", [8, 4])
def test_expanding_at_each_run_keeps_weights_small_in_memory(tmp_path: Path, bits: int) -> None:
    changed = small(convolutions(), tmp_path, expand="run", bits=bits, narrow_from=1)
    assert run_ops(changed, IMAGES, tmp_path)["DequantizeLinear"] == 3
    loaded = onnx.load(tmp_path / "optimized.onnx").graph.initializer
    assert sum(item.data_type == TensorProto.FLOAT for item in loaded if len(item.dims) > 1) == 0


def test_both_ways_of_expanding_give_the_same_answers(tmp_path: Path) -> None:
    at_load, at_run = (small(convolutions(), tmp_path, bits=4, narrow_from=1, expand=how) for how in ("load", "run"))
    assert error(at_load, at_run, IMAGES) < 1e-5


def test_an_odd_number_of_half_bytes_is_stored_whole(tmp_path: Path) -> None:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 21])
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights(21, 13)}, entry)
    samples = np.random.default_rng(0).standard_normal((9, 21)).astype(np.float32)
    changed = small(model, tmp_path, bits=4, narrow_from=1)
    assert [137] in [list(item.dims) for item in changed.graph.initializer if item.data_type == TensorProto.UINT8]
    assert error(model, changed, samples) < 0.25


def test_vectors_and_excluded_nodes_stay_float_and_nothing_left_is_an_error(tmp_path: Path) -> None:
    changed = small(convolutions(), tmp_path, exclude=("first", "y"))
    kept = {item.name for item in changed.graph.initializer if item.data_type == TensorProto.FLOAT}
    assert {"a", "a.b", "c"} <= kept
    assert "b" not in kept
    with pytest.raises(ValueError, match="no float32 weight tensor"):
        small(convolutions(), tmp_path, smallest=1_000_000)


def test_static_stores_an_embedding_in_bytes_unless_told_not_to(tmp_path: Path) -> None:
    words = np.random.default_rng(0).integers(0, 300, (30, 7))
    sizes = {}
    for rest in ("int8", "float"):
        changed = QuantizeStatic().apply(embedded(), StaticParams(rest=rest), ArrayContext({"x": words}, scratch=tmp_path))
        assert error(embedded(), changed, words) < 0.05
        sizes[rest] = changed.ByteSize()
    assert sizes["float"] > 3 * sizes["int8"]


def test_half_precision_halves_the_file_and_keeps_float_inputs_and_outputs(tmp_path: Path) -> None:
    model = convolutions()
    changed = half(model, tmp_path)
    assert model.ByteSize() / changed.ByteSize() > 1.9
    assert error(model, changed, IMAGES) < 2e-3
    assert all(item.type.tensor_type.elem_type == TensorProto.FLOAT for item in (*changed.graph.input, *changed.graph.output))
    assert Counter(node.op_type for node in changed.graph.node)["Cast"] == 2


def test_what_would_overflow_in_half_precision_stays_single(tmp_path: Path) -> None:
    """The runtime here computes halves in single precision and hides it, so the precision of the node is what is looked at."""
    loud = convolutions(gain=3e4)
    blind, seeing = half(loud, tmp_path, samples=0), half(loud, tmp_path)
    made = [next(node.output[0] for node in model.graph.node if node.name == "louder") for model in (blind, seeing)]
    assert made[0] != "g"
    assert made[1] == "g"
    assert error(loud, seeing, IMAGES) < 2e-3
    beyond = half(convolutions(gain=1e5), tmp_path, samples=0)
    assert next(node.output[0] for node in beyond.graph.node if node.name == "louder") == "g"


def test_a_constant_that_would_vanish_keeps_its_node_single(tmp_path: Path) -> None:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])
    nodes = [helper.make_node("Add", ["x", "eps"], ["s"], name="guard"), helper.make_node("MatMul", ["s", "w"], ["y"])]
    changed = half(
        model_of(nodes, {"eps": np.array(1e-12, np.float32), "w": weights(8, 3)}, entry),
        tmp_path,
        data=np.ones((4, 8), np.float32),
    )
    assert {item.data_type for item in changed.graph.initializer if item.name == "eps"} == {TensorProto.FLOAT}


def test_whole_numbers_and_index_arithmetic_are_left_alone(tmp_path: Path) -> None:
    words = np.random.default_rng(0).integers(0, 300, (30, 7))
    changed = half(embedded(), tmp_path, data=words)
    assert changed.graph.input[0].type.tensor_type.elem_type == TensorProto.INT64
    assert error(embedded(), changed, words) < 2e-3


def test_what_they_do_not_apply_to_is_said_in_words() -> None:
    facts = ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1}, weight_dtypes={"float32": 900})
    profile = DeviceProfileSpec()
    for strategy in (QuantizeWeights(), QuantizeFloat16()):
        assert strategy.supports(facts, profile).ok
        assert "already" in strategy.supports(replace(facts, ops={"QuantizeLinear": 1}), profile).reason
        assert "float32" in strategy.supports(replace(facts, weight_dtypes={"float16": 9}), profile).reason


def test_four_bits_are_proposed_where_bytes_count() -> None:
    facts = ModelFacts("0" * 64, 1000, 17, (), (), weight_dtypes={"float32": 900})
    proposed = [
        [params.bits for params in QuantizeWeights().propose(facts, profile)]
        for profile in (DeviceProfileSpec(), DeviceProfileSpec(storage=500))
    ]
    assert 4 not in proposed[0]
    assert 4 in proposed[1]
