"""Scales of an earlier artifact: kept where they fit, through all that the target does to a file; else new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_onnxruntime.target import DOT_PRODUCT, OnnxRuntime
from edge_compress_quantize.earlier import laid_beside, period, read_places
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from onnx import numpy_helper

from edge_compress.encoding import Source, chunks, packed
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_static import error, residual, samples, weights

Array = np.ndarray[Any, Any]
EARLIER = "e" * 64


def network() -> onnx.ModelProto:
    """``residual`` with more weights, so that what they cost is what counts."""
    model = residual()
    wide = {"a.w": (64, 3, 3, 3), "b.w": (64, 64, 3, 3), "c.w": (96, 64, 3, 3), "g.w": (5, 96), "a.b": (64,), "b.b": (64,)}
    for item in model.graph.initializer:
        if shape := {**wide, "c.b": (96,)}.get(item.name):
            item.CopyFrom(numpy_helper.from_array(weights(*shape), item.name))
        elif item.name == "pads":
            item.CopyFrom(numpy_helper.from_array(np.array([0, 16, 0, 0, 0, 16, 0, 0]), item.name))
    del model.graph.value_info[:]
    return model


def moved(model: onnx.ModelProto, by: float, *, times: float = 1.0) -> onnx.ModelProto:
    """A fine-tuned version: every weight moved by a share of the spread of its tensor, and all grown."""
    copy, draw = onnx.ModelProto.FromString(model.SerializeToString()), np.random.default_rng(5)
    for item in copy.graph.initializer:
        value = numpy_helper.to_array(item)
        if value.dtype == np.float32 and value.ndim > 1:
            changed = times * value + by * value.std() * draw.standard_normal(value.shape)
            item.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), item.name))
    return copy


class Bench:
    """Quantises as the host does, and keeps the first file as the earlier one."""

    def __init__(self, folder: Path, variant: str = "", **params: Any) -> None:
        self._folder, self._variant, self._params = folder, variant, params
        self.said: list[str] = []

    def file(self, model: onnx.ModelProto, **params: Any) -> bytes:
        context = ArrayContext({"x": samples()}, scratch=self._folder, artifacts={EARLIER: self._folder / "earlier.onnx"})
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        made = QuantizeStatic().apply(copy, StaticParams(**self._params, **params), context)
        self.said = [line for line in context.logged if EARLIER[:12] in line]
        return OnnxRuntime().convert(made, context, self._variant)

    def deliver(self, model: onnx.ModelProto) -> bytes:
        file = self.file(model)
        (self._folder / "earlier.onnx").write_bytes(file)
        return file


def update(new: bytes, base: bytes) -> int:
    source = Source.of(new, base)
    return sum(len(packed(source, start, end)[0]) for start, end in chunks(len(new)))


@pytest.mark.parametrize(
    ("params", "variant"),
    [
        ({}, ""),
        ({}, DOT_PRODUCT),
        ({"reduce_range": True}, ""),
        ({"rate": 3.0}, ""),
        ({"bits": 6}, DOT_PRODUCT),
        ({"per_channel": False}, ""),
        ({"mixed": True}, ""),
    ],
)
def test_the_update_of_a_fine_tuned_model_is_small_and_its_quality_holds(
    tmp_path: Path, variant: str, params: dict[str, Any]
) -> None:
    bench, tuned = Bench(tmp_path, variant, **params), moved(network(), 0.01)
    old = bench.deliver(network())
    plain, kept = bench.file(tuned), bench.file(tuned, scales_of=EARLIER)
    assert update(kept, old) < 0.7 * update(plain, old)
    lost, loses = (error(tuned, onnx.load_from_string(file)) for file in (plain, kept))
    assert loses < lost + 0.01  # no more than the models are apart


@pytest.mark.parametrize("variant", ["", DOT_PRODUCT])
def test_the_same_model_gives_the_same_file(tmp_path: Path, variant: str) -> None:
    bench = Bench(tmp_path, variant)
    old = bench.deliver(network())
    assert bench.file(network(), scales_of=EARLIER) == old
    assert "the scales of 7 of 7 activations and 229 of 229 channels" in bench.said[0]


def test_a_model_whose_ranges_moved_gets_new_scales(tmp_path: Path) -> None:
    bench, grown = Bench(tmp_path), moved(network(), 0.0, times=3.0)
    bench.deliver(network())
    assert bench.file(grown, scales_of=EARLIER) == bench.file(grown)
    bench.file(grown, scales_of=EARLIER)
    assert "the scales of 2 of 7 activations and 0 of 229 channels" in bench.said[0]  # what comes in, and what a bound cuts off


def test_integers_of_a_wider_range_are_not_taken_where_sums_would_overflow(tmp_path: Path) -> None:
    Bench(tmp_path, rate=8.0, reduce_range=False).deliver(network())
    reduced = Bench(tmp_path, rate=7.0, reduce_range=True)
    made = onnx.load_from_string(reduced.file(network(), scales_of=EARLIER))
    assert reduced.said
    kernels = [numpy_helper.to_array(item) for item in made.graph.initializer if len(item.dims) == 4]
    assert max(np.abs(kernel.astype(np.int16)).max() for kernel in kernels) <= 64


def test_another_model_takes_what_fits_and_is_no_worse_for_it(tmp_path: Path) -> None:
    bench, other = Bench(tmp_path), moved(network(), 0.5)
    other.graph.node.remove(next(node for node in other.graph.node if node.op_type == "Relu" and node.output[0] == "dr"))
    next(node for node in other.graph.node if node.op_type == "AveragePool").input[0] = "d"
    bench.deliver(network())
    made = [onnx.load_from_string(bench.file(other, **more)) for more in ({}, {"scales_of": EARLIER})]
    lost, loses = (error(other, one) for one in made)
    assert loses < 1.2 * lost


def test_places_of_a_file_are_those_of_its_graph(tmp_path: Path) -> None:
    files = {variant: Bench(tmp_path, variant).deliver(network()) for variant in ("", DOT_PRODUCT)}
    found = {}
    for variant, file in files.items():
        (tmp_path / "model.onnx").write_bytes(file)
        found[variant] = read_places(tmp_path / "model.onnx")
    assert [one.kind for one in found[""]] == [one.kind for one in found[DOT_PRODUCT]]
    assert None not in laid_beside(found[""], found[DOT_PRODUCT])
    assert [one.op for one in found[""] if one.weights] == ["Conv", "Conv", "Conv", "Gemm"]


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "earlier.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="earlier artifact"):
        read_places(tmp_path / "earlier.onnx")


def test_scales_repeat_only_where_all_do() -> None:
    assert period(np.array([1, 2, 1, 2], np.float32)) == 2
    assert period(np.array([1, 1, 1], np.float32)) == 3
    assert period(np.array([1, 2, 1, 3], np.float32)) == 4
