from __future__ import annotations

import pytest
from edge_compress_prune.structured_budget import Choice, Layer, cost_left, share_out

CHAIN = [Layer(90.0, {}, {"a": 1.0}), Layer(100.0, {"a": 1.0}, {"b": 1.0}), Layer(10.0, {"b": 1.0}, {})]


def choices(*, fewest: int = 1, multiple: int = 1, worth_a: float = 1.0) -> list[Choice]:
    return [
        Choice("a", tuple(worth_a * (k + 1) for k in range(10)), fewest, multiple),
        Choice("b", (1.0,) * 10, fewest, multiple),
    ]


def left(gone: dict[str, list[int]]) -> float:
    return cost_left(CHAIN, {"a": 10, "b": 10}, {name: len(channels) for name, channels in gone.items()})


def test_a_layer_between_two_groups_costs_the_product_of_what_both_keep() -> None:
    assert cost_left(CHAIN, {"a": 10, "b": 10}, {"a": 5, "b": 5}) == pytest.approx((45 + 25 + 5) / 200)


def test_a_group_that_is_part_of_a_concat_takes_its_share_only() -> None:
    assert Layer(100.0, {"a": 0.25, "b": 0.75}, {}).now({"a": 0.0, "b": 1.0}) == pytest.approx(75.0)


@pytest.mark.parametrize("target", [0.9, 0.5, 0.25])
def test_the_target_is_met_by_no_more_than_one_step_too_many(target: float) -> None:
    gone = share_out(choices(), CHAIN, target)
    assert target - 0.1 < left(gone) <= target


def test_the_least_important_channels_go_first() -> None:
    gone = share_out([Choice("a", (5.0, 1.0, 4.0, 2.0, 3.0), 1, 1)], [Layer(10.0, {}, {"a": 1.0})], 0.4)
    assert gone == {"a": [1, 3, 4]}


def test_a_group_whose_channels_are_worth_a_lot_keeps_more() -> None:
    cheap, dear = (len(share_out(choices(worth_a=worth), CHAIN, 0.5).get("a", ())) for worth in (0.01, 100.0))
    assert dear < cheap


def test_what_is_left_is_a_multiple_and_never_under_the_fewest() -> None:
    gone = share_out(choices(fewest=4, multiple=4), CHAIN, 0.0)
    assert {name: 10 - len(channels) for name, channels in gone.items()} == {"a": 4, "b": 4}


def test_equal_inputs_give_equal_cuts() -> None:
    assert share_out(choices(), CHAIN, 0.4) == share_out(choices(), CHAIN, 0.4)
