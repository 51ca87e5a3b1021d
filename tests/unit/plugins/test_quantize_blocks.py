from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_onnxruntime.pack import pack as packed_file
from edge_compress_quantize.blocks import BlocksParams, QuantizeBlocks
from edge_compress_quantize.products import pack
from onnx import TensorProto, helper

from edge_compress.graph.check import parse_checked
from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import DeviceProfileSpec, InvalidSpec, LayerFacts, ModelFacts
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_weights import embedded, error, model_of, run, weights

Array = np.ndarray[Any, Any]

SAMPLES = np.random.default_rng(0).standard_normal((9, 6, 64)).astype(np.float32)


def perceptron() -> onnx.ModelProto:
    """A MatMul of three axes, then Gemms the one way round and the other, with and without a bias."""
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6, 64])
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["m", "b", "bias"], ["g"], name="second", transB=1),
        helper.make_node("Gemm", ["g", "c"], ["y"], name="third"),
    ]
    constants = {"a": weights(64, 96), "b": weights(80, 96), "bias": weights(80), "c": weights(80, 60)}
    return model_of(nodes, constants, entry)


def in_blocks(model: onnx.ModelProto, folder: Path, **params: Any) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    bound = QuantizeBlocks().bind(BlocksParams(**params), DeviceProfileSpec())
    return QuantizeBlocks().apply(copy, bound, ArrayContext({}, scratch=folder))


@pytest.mark.parametrize(
    ("params", "ratio", "largest"),
    [
        ({}, 5.0, 0.13),
        ({"integers": False}, 5.0, 0.13),
        ({"block": 16}, 4.5, 0.11),
        ({"block": 128}, 5.0, 0.15),
        ({"bits": 8, "block": 128}, 3.0, 0.012),
        ({"bits": 8, "integers": False}, 2.8, 0.01),
    ],
)
def test_matrices_shrink_and_the_runtime_multiplies_by_them_as_they_are(
    tmp_path: Path, params: dict[str, Any], ratio: float, largest: float
) -> None:
    model = perceptron()
    changed = in_blocks(model, tmp_path, smallest=1, **params)
    assert Counter(node.op_type for node in changed.graph.node)["MatMulNBits"] == 3
    assert len(packed_file(model)) / len(packed_file(changed)) > ratio
    assert error(model, changed, SAMPLES) < largest
    run(changed, SAMPLES, tmp_path / "optimized.onnx")
    left = onnx.load(tmp_path / "optimized.onnx").graph
    assert Counter(node.op_type for node in left.node)["MatMulNBits"] == 3
    assert not any(item.data_type == TensorProto.FLOAT and np.prod(item.dims) > 4096 for item in left.initializer)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [16, 37, 64, 100])
def test_the_runtime_reads_the_layout_that_is_written(tmp_path: Path, bits: int, rows: int) -> None:
    """What is unpacked by the documented layout gives what the runtime computes, to float rounding; also for torn blocks."""
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", rows])
    weight = weights(rows, 50)
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, entry)
    changed = in_blocks(model, tmp_path, bits=bits, block=16, integers=False, smallest=1)
    packed = pack(weight, bits, 16)
    steps = packed.data if bits == 8 else np.stack([packed.data & 15, packed.data >> 4], -1).reshape(50, -1, 16)
    restored = (steps.astype(np.float32) - 2 ** (bits - 1)) * packed.scales[..., None]
    samples = np.random.default_rng(1).standard_normal((7, rows)).astype(np.float32)
    wanted = samples @ restored.reshape(50, -1)[:, :rows].T
    np.testing.assert_allclose(run(changed, samples), wanted, rtol=1e-4, atol=1e-5)
    signal = 10 * np.log10(np.square(weight).sum() / np.square(weight - restored.reshape(50, -1)[:, :rows].T).sum())
    assert packed.decibels == pytest.approx(signal, abs=0.01)


def test_scales_are_better_than_those_that_keep_the_largest_value() -> None:
    weight = np.random.default_rng(2).standard_t(4, (128, 64)).astype(np.float32)
    values = weight.T.reshape(64, 4, 32)
    plain = np.abs(values).max(-1)[..., None] / 7
    noise = np.square(values - np.clip(np.rint(values / plain), -8, 7) * plain).sum()
    assert pack(weight, 4, 32).decibels > 10 * np.log10(np.square(values).sum() / noise) + 0.5


def test_a_matrix_of_zeros_stays_one() -> None:
    packed = pack(np.zeros((32, 3), np.float32), 4, 16)
    assert (packed.data == 0x88).all()
    assert np.isfinite(packed.scales).all()


def test_matrices_that_lose_too_much_get_8_bits_and_the_log_says_so(tmp_path: Path) -> None:
    model = perceptron()
    rough = np.random.default_rng(3).laplace(size=(64, 96)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(rough, "a"))
    context = ArrayContext({}, scratch=tmp_path)
    changed = QuantizeBlocks().apply(model, BlocksParams(smallest=1, least_decibels=19.0, block=64), context)
    bits = {
        item.name: {one.name: one.i for one in item.attribute}["bits"]
        for item in changed.graph.node
        if item.op_type == "MatMulNBits"
    }
    assert bits == {"first": 8, "second": 4, "third": 4}
    assert [line for line in context.logged if line.startswith("diagnosis: h: 4 bits are too coarse")]


def test_facts_of_the_result_are_those_of_the_original(tmp_path: Path) -> None:
    model = perceptron()
    data = packed_file(in_blocks(model, tmp_path, smallest=1))
    before, after = (facts_of_model(item, "0" * 64, item.ByteSize()) for item in (model, parse_checked(data)))
    assert after.macs == before.macs == 6 * 64 * 96 + 96 * 80 + 80 * 60
    assert after.parameters == before.parameters
    assert after.peak_activation_bytes == before.peak_activation_bytes > 0
    assert after.custom_domains == ("com.microsoft",)
    assert after.quantized
    assert not QuantizeBlocks().supports(after, DeviceProfileSpec()).ok
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)


def test_other_weights_are_stored_in_bytes_unless_told_not_to(tmp_path: Path) -> None:
    words = np.random.default_rng(0).integers(0, 300, (30, 7))
    sizes = {}
    for rest in ("int8", "float"):
        changed = in_blocks(embedded(), tmp_path, rest=rest, smallest=1)
        assert error(embedded(), changed, words) < 0.15
        sizes[rest] = changed.ByteSize()
    assert sizes["float"] > 3 * sizes["int8"]


def test_small_excluded_and_unusual_products_stay_float(tmp_path: Path) -> None:
    kept = in_blocks(perceptron(), tmp_path, smallest=1, exclude=("first", "y"), rest="float")
    assert Counter(node.op_type for node in kept.graph.node)["MatMulNBits"] == 1
    with pytest.raises(ValueError, match="10000 values or more"):
        in_blocks(perceptron(), tmp_path, smallest=10_000)
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, "N"])
    odd = model_of([helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)], {"w": weights(64, 64)}, entry)
    with pytest.raises(ValueError, match="no MatMul or Gemm"):
        in_blocks(odd, tmp_path, smallest=1)


@pytest.mark.parametrize(("params", "said"), [({"bits": 5}, "4 or 8"), ({"block": 48}, "a power of two")])
def test_parameters_the_runtime_cannot_take_are_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        BlocksParams(**params)


def test_what_it_does_not_apply_to_is_said_in_words() -> None:
    facts = ModelFacts("0" * 64, 1000, 17, (), (), ops={"MatMul": 1}, weight_dtypes={"float32": 900})
    strategy, profile = QuantizeBlocks(), DeviceProfileSpec()
    assert strategy.supports(facts, profile).ok
    assert "no MatMul" in strategy.supports(replace(facts, ops={"Conv": 1}), profile).reason
    assert "already" in strategy.supports(replace(facts, ops={"MatMul": 1, "MatMulNBits": 1}), profile).reason
    assert "other" in strategy.supports(facts, DeviceProfileSpec(runtime="other")).reason
    assert "float32" in strategy.supports(replace(facts, weight_dtypes={"float16": 9}), profile).reason


def test_integers_are_used_where_the_profile_has_them_and_8_bits_only_there() -> None:
    facts = ModelFacts("0" * 64, 1000, 17, (), (), ops={"MatMul": 1}, weight_dtypes={"float32": 900})
    strategy = QuantizeBlocks()
    for precisions, whole in ((("fp32",), False), (("fp32", "int8"), True)):
        profile = DeviceProfileSpec(precisions=precisions)
        bound = [strategy.bind(item, profile) for item in strategy.propose(facts, profile)]
        assert {item.integers for item in bound} == {whole}
        assert (8 in {item.bits for item in bound}) is whole


def test_nothing_is_proposed_where_every_matrix_is_too_small_for_blocks() -> None:
    small = LayerFacts("head", "Gemm", weight_bytes=4 * 640, weight_count=640)
    facts = ModelFacts("0" * 64, 3000, 17, (), (), ops={"Gemm": 1}, layers=(small,), weight_dtypes={"float32": 2560})
    assert not QuantizeBlocks().propose(facts, DeviceProfileSpec())
    large = replace(small, weight_bytes=4 * 4096, weight_count=4096)
    assert QuantizeBlocks().propose(replace(facts, layers=(small, large)), DeviceProfileSpec())
