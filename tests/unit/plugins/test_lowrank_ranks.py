from __future__ import annotations

import numpy as np
import onnx
import pytest
from edge_compress_lowrank.factors import Split
from edge_compress_lowrank.layers import Layer
from edge_compress_lowrank.moments import Moment
from edge_compress_lowrank.ranks import Choice, by_energy, by_ratio, may_pay, menu


def matrix(outputs: int, inputs: int, rank: int) -> Layer:
    """A product whose weights have this rank but for a little noise."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((outputs, rank)) @ draw.standard_normal((rank, inputs))
    weight += 0.01 * draw.standard_normal(weight.shape)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    return Layer("layer", node, weight.astype(np.float32), None, False, None, (1,))


def choice(macs: int, weights: int, lost: float, harm: float | None = None) -> Choice:
    return Choice("channel", (8,), macs, weights, lost, lost if harm is None else harm)


def test_only_splits_that_save_both_are_on_the_menu() -> None:
    choices = menu(matrix(64, 48, 10), Moment.unknown(48), 4)
    assert [item.ranks[0] for item in choices] == [4, 8, 12, 16, 20, 24]
    assert all(item.macs == item.weights == 64 * 48 - item.ranks[0] * (64 + 48) > 0 for item in choices)
    losses = [item.lost for item in choices]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] > 0.05 > 0.001 > losses[2]


def test_a_layer_too_small_for_the_thinnest_rank_is_known_before_data_is_looked_at() -> None:
    assert may_pay(matrix(17, 17, 2), 8)
    assert not may_pay(matrix(16, 16, 2), 8)
    assert not menu(matrix(16, 16, 2), Moment.unknown(16), 8)


def test_harm_is_measured_twice_and_grows_between_as_it_was_seen_to() -> None:
    asked: list[float] = []

    def harm(split: Split) -> float:
        asked.append(split.lost)
        return 50 * split.lost**2

    choices = menu(matrix(64, 48, 40), Moment.unknown(48), 4, harm)
    assert len(asked) == 2
    low, high = sorted(asked)
    for item in choices:
        steep = item.lost > low
        assert item.harm == pytest.approx(50 * item.lost**2 if steep else 50 * low * item.lost)
    assert max(item.lost for item in choices) > high


def test_an_energy_takes_of_each_layer_the_cheapest_split_that_keeps_it() -> None:
    menus = {"a": [choice(90, 1, 0.2), choice(50, 1, 0.04), choice(60, 1, 0.05)], "b": [choice(10, 1, 0.3)]}
    assert by_energy(menus, 0.95) == {"a": menus["a"][2]}
    assert by_energy(menus, 0.99) == {}


def test_a_ratio_is_reached_where_it_harms_least() -> None:
    menus = {
        "tough": [choice(100, 10, 0.01, harm=0.1), choice(200, 20, 0.02, harm=0.3)],
        "tender": [choice(100, 50, 0.01, harm=1.0), choice(300, 90, 0.02, harm=9.0)],
    }
    assert by_ratio(menus, 90, "macs") == {"tough": menus["tough"][0]}
    assert by_ratio(menus, 150, "macs") == {"tough": menus["tough"][1]}
    assert by_ratio(menus, 290, "macs") == {"tough": menus["tough"][1], "tender": menus["tender"][0]}
    assert by_ratio(menus, 25, "weights")["tender"] == menus["tender"][0]
    with pytest.raises(ValueError, match="500 macs at most, 501"):
        by_ratio(menus, 501, "macs")
