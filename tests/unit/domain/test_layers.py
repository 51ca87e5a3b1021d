"""Which layer of an artifact comes from which of the original, and what the two are told to cost."""

from __future__ import annotations

import pytest

from edge_compress.domain.artifact import Measurement, Outcome
from edge_compress.domain.layers import (
    EVERYTHING_ELSE,
    MOST_LAYERS,
    MOST_SAMPLES,
    LayerReport,
    Timed,
    effort,
    origins,
    same_layers,
    side_by_side,
)
from edge_compress.domain.model import LayerFacts
from edge_compress.domain.report import report_entry
from edge_compress.domain.schema import decode, encode


def layer(name: str, op: str = "Conv", macs: int = 100, weight_bytes: int = 40) -> LayerFacts:
    return LayerFacts(name, op, macs, weight_bytes, weight_bytes // 4, 8)


def layers(*names: str, op: str = "Conv") -> list[LayerFacts]:
    return [layer(name, op) for name in names]


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (("a", "b"), ("a", "b"), [0, 1]),
        (("conv1", "conv2"), ("conv1", "conv2/0", "conv2"), [0, 1, 1]),
        (("/l/conv1", "/l/conv1/extra"), ("/l/conv1/extra_quant", "/l/conv1_quant"), [1, 0]),
        (("conv1", "conv10"), ("conv10",), [1]),
        (("a", "b", "c"), ("p", "q", "r"), [0, 1, 2]),
        (("a", "b", "c"), ("a", "q", "r"), [0, 1, 2]),
        (("a", "b", "c"), ("p", "q"), [None, None]),
    ],
)
def test_layers_are_found_by_name_then_by_order(
    before: tuple[str, ...], after: tuple[str, ...], wanted: list[int | None]
) -> None:
    assert origins(layers(*before), layers(*after)) == wanted


def test_order_tells_only_within_a_family() -> None:
    before = [layer("c"), layer("m", "MatMul"), layer("g", "Gemm")]
    after = [layer("x", "MatMulInteger"), layer("y", "ConvInteger"), layer("z", "QGemm")]
    assert origins(before, after) == [1, 0, 2]


def test_a_fused_layer_named_after_its_bias_belongs_to_the_arithmetic() -> None:
    before = [layer("dense", "MatMul"), layer("bias", "Add", macs=0, weight_bytes=8)]
    found = side_by_side(before, [layer("bias", "Gemm", weight_bytes=12)])
    assert [(item.name, item.bytes_after, item.note) for item in found] == [
        ("dense", 12, "now Gemm"),
        ("bias", None, "folded into its neighbour"),
    ]


def test_parts_of_a_split_layer_are_summed() -> None:
    after = [layer("conv/0", weight_bytes=8), layer("conv", weight_bytes=12)]
    (found,) = side_by_side(
        layers("conv"),
        after,
        timed=Timed({"conv": 0.004}),
        timed_after=Timed({"conv/0": 0.001, "conv": 0.002}),
        sensitivity={"conv": 0.25},
    )
    assert (found.bytes, found.bytes_after, found.seconds, found.sensitivity) == (40, 20, 0.004, 0.25)
    assert found.seconds_after == pytest.approx(0.003)
    assert found.note == "now 2 Conv"


def test_what_is_unknown_is_absent_and_the_rest_has_an_entry_of_its_own() -> None:
    first, rest = side_by_side(layers("a"), [], timed=Timed({"a": 0.1}, 0.02))
    assert (first.bytes_after, first.seconds_after, first.sensitivity, first.note) == (None, None, None, "")
    assert (rest.name, rest.seconds, rest.seconds_after) == (EVERYTHING_ELSE, 0.02, None)
    assert side_by_side([], [], timed=Timed()) == ()


def test_another_network_is_not_matched_and_its_time_is_told_as_a_whole() -> None:
    first, second, rest = side_by_side(
        layers("a", "b"), layers("p"), timed=Timed({"a": 0.1, "b": 0.2}, 0.05), timed_after=Timed({"p": 0.03}, 0.01)
    )
    assert [(item.bytes_after, item.note) for item in (first, second)] == [(None, ""), (None, "")]
    assert (rest.seconds, rest.seconds_after) == (0.05, pytest.approx(0.04))


def test_of_huge_models_the_heaviest_layers_are_told_in_their_order() -> None:
    every = [layer(str(index), macs=1 + index % 7, weight_bytes=4 * (index % 5)) for index in range(3 * MOST_LAYERS)]
    every[400] = layer("giant", macs=10**6, weight_bytes=10**6)
    found = side_by_side(every, [])
    assert len(found) == MOST_LAYERS
    assert "giant" in [item.name for item in found]
    order = [item.name for item in every]
    assert sorted(found, key=lambda item: order.index(item.name)) == list(found)


def test_packed_layers_get_their_names_back_only_where_the_order_agrees() -> None:
    named = [layer("stem", macs=5), layer("head", "Gemm", macs=7, weight_bytes=16)]
    packed = [layer("a", macs=6, weight_bytes=44), layer("b", "Gemm", macs=7)]
    assert same_layers(named, packed) == {"a": "stem", "b": "head"}
    assert same_layers(named, packed[::-1]) == {}
    assert same_layers(named, packed[:1]) == {}


def test_small_models_are_probed_on_many_samples_and_huge_ones_only_where_the_weights_are() -> None:
    small = [LayerFacts("a", "Conv", 10_000, 400, 100), LayerFacts("relu", "Relu"), LayerFacts("b", "Gemm", 100, 400, 100)]
    assert effort(small, 5.0) == effort(small, 50.0)
    assert effort(small, 5.0).names == ("a", "b")
    assert effort(small, 5.0).samples == MOST_SAMPLES
    huge = [LayerFacts(str(at), "Conv", 5 * 10**9, 4 * at, at) for at in range(1, 40)]
    chosen = effort(huge, 5.0)
    assert chosen.samples == 1
    assert 0 < len(chosen.names) < len(huge)
    assert "39" in chosen.names
    assert "1" not in chosen.names


def test_outcomes_carry_layers_and_those_stored_before_still_decode() -> None:
    told = (LayerReport("conv", "Conv", 100, 40, 12, 0.001, None, 0.125, "now 2 Conv"),)
    outcome = Outcome("m", "p", "INFEASIBLE", None, None, None, (), Measurement(), layers=told)
    plain = encode(outcome)
    assert decode(Outcome, plain, "outcome") == outcome
    plain.pop("layers")
    assert decode(Outcome, plain, "outcome").layers == ()
    entry = report_entry([outcome])["profiles"]["p"]["layers"]
    assert entry == [
        {
            "name": "conv",
            "op": "Conv",
            "macs": 100,
            "bytes": 40,
            "bytes_after": 12,
            "time_ms": 1.0,
            "time_after_ms": None,
            "sensitivity": 0.125,
            "note": "now 2 Conv",
        }
    ]
