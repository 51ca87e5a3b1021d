"""Where dials are set: between what lost too much and what lost little, and where training begins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_compress.domain.artifact import AppliedStep, Latency, Measurement, Quality
from edge_compress.domain.dials import set_for_training, settings_between
from edge_compress.domain.outlook import Outlook, Seen
from edge_compress.domain.plan import Candidate, Dial, Proposal
from edge_compress.domain.spec import DeviceProfileSpec

ORIGINAL = Measurement("f" * 64, 1000, 1000, latency=Latency(0.01, 0.012, ratio_to_float=1.0))
RATE = Dial("rate", rises=True, minimum=1.0, maximum=8.0)
RATIO = Dial("ratio", rises=False, minimum=0.0, maximum=0.9)
OPTIMIZE = Proposal("graph.optimize", "1", "graph", lossless=True)


def few_bits(rate: float, **others: object) -> Proposal:
    return Proposal("quantize.static", "1", "precision", params={"rate": rate, "samples": 8, **others}, dials=(RATE,))


def split(ratio: float) -> Proposal:
    return Proposal("lowrank.svd", "1", "structure", params={"ratio": ratio}, dials=(RATIO,))


def trained(rate: float) -> Proposal:
    begins = AppliedStep("quantize.static", "1", {"rate": rate, "samples": 8})
    return Proposal(
        "quantize.qat", "1", "precision", params={"rate": rate}, dials=(RATE,), trains=True, begins=begins, repairs=1.6
    )


def candidate(*made_of: Proposal) -> Candidate:
    return Candidate(tuple(item.step for item in made_of), trains=any(item.trains for item in made_of), made_of=made_of)


def seen(*made_of: Proposal, size: int = 250, ratio: float = 0.5, drop: float) -> Seen:
    quality = Quality("top1", 0.9, 0.9 - drop, drop, 1000, (0.88, 0.92))
    latency = Latency(0.01 * ratio, 0.012 * ratio, ratio_to_float=ratio)
    return Seen(candidate(*made_of), Measurement("0" * 64, size, size, quality, latency, 100))


def outlook(*ran: Seen, objective: str = "size") -> Outlook:
    """With a drop of 0.01 allowed."""
    return Outlook(ran, ORIGINAL, DeviceProfileSpec(), 0.01, objective)


def rates(found: list[Candidate]) -> list[float]:
    return [item.steps[-1].params["rate"] for item in found]


def test_a_setting_is_chosen_where_the_loss_is_just_less_than_allowed() -> None:
    known = outlook(seen(few_bits(2.0), size=100, drop=0.04), seen(few_bits(4.0), size=200, drop=0.0025))
    (chosen,) = settings_between(known, 4)
    assert chosen.steps[-1].params["rate"] == pytest.approx(3.26, abs=0.01), "losses fall by the same factor for each bit"
    assert chosen.steps[-1].params["samples"] == 8


def test_it_goes_at_most_one_distance_beyond_what_was_measured() -> None:
    harmless = outlook(seen(few_bits(3.0), size=150, drop=0.0008), seen(few_bits(4.0), size=200, drop=0.0006))
    assert rates(settings_between(harmless, 4)) == [2.0]
    harmful = outlook(seen(OPTIMIZE, drop=0.0, size=1000), seen(few_bits(2.0), drop=0.2), seen(few_bits(3.0), drop=0.05))
    assert rates(settings_between(harmful, 4)) == [4.0]


def test_dials_that_fall_are_turned_the_other_way() -> None:
    known = outlook(seen(split(0.3), ratio=0.7, drop=0.02), seen(split(0.1), ratio=0.9, drop=0.002), objective="latency")
    (chosen,) = settings_between(known, 4)
    assert 0.1 < chosen.steps[0].params["ratio"] < 0.3


def test_nothing_is_tried_that_cannot_be_better() -> None:
    tiny = seen(OPTIMIZE, size=90, drop=0.0)
    curve = [seen(few_bits(2.0), size=100, drop=0.04), seen(few_bits(4.0), size=200, drop=0.0025)]
    assert not settings_between(outlook(tiny, *curve), 4)
    fast = outlook(*(replace(item) for item in curve), objective="latency")
    assert not settings_between(fast, 4), "both take the same time"


def test_what_was_tried_already_is_not_tried_again() -> None:
    known = [seen(few_bits(rate), size=int(50 * rate), drop=drop) for rate, drop in ((2.0, 0.04), (3.2, 0.0075), (4.0, 0.0025))]
    assert not settings_between(outlook(*known), 4)


def test_one_setting_tells_nothing_nor_do_others_that_differ_otherwise() -> None:
    assert not settings_between(outlook(seen(few_bits(2.0), drop=0.04)), 4)
    apart = outlook(seen(few_bits(2.0, samples=9), drop=0.04), seen(few_bits(4.0), drop=0.001))
    assert not settings_between(apart, 4)


def test_losses_that_do_not_fall_tell_nothing() -> None:
    assert not settings_between(outlook(seen(few_bits(2.0), size=100, drop=0.04), seen(few_bits(4.0), size=200, drop=0.05)), 4)


def test_what_trains_is_not_tried_at_other_settings() -> None:
    known = outlook(seen(trained(2.0), size=100, drop=0.04), seen(trained(4.0), size=200, drop=0.0025))
    assert not settings_between(known, 4)


def test_settings_after_a_training_are_tried() -> None:
    cut = Proposal("prune.structured", "1", "structure", trains=True)
    known = outlook(seen(cut, few_bits(2.0), size=100, drop=0.04), seen(cut, few_bits(4.0), size=200, drop=0.0025))
    assert len(settings_between(known, 4)) == 1


def test_training_begins_with_what_it_makes_up_for() -> None:
    known = outlook(seen(OPTIMIZE, few_bits(2.0), size=100, drop=0.064), seen(OPTIMIZE, few_bits(4.0), size=200, drop=0.004))
    member = candidate(OPTIMIZE, trained(2.4))
    (chosen,) = set_for_training(member.trained, [member], known)
    assert chosen.steps[-1].params["rate"] == pytest.approx(3.0, abs=0.01), "a loss of 0.016 lies half way"
    assert chosen.trained == chosen.steps


def test_training_stays_as_proposed_where_nobody_tells() -> None:
    member = candidate(OPTIMIZE, trained(2.4))
    assert set_for_training(member.trained, [member], outlook()) == [member]
    other = outlook(seen(few_bits(2.0, samples=9), drop=0.064), seen(few_bits(4.0, samples=9), drop=0.004))
    assert set_for_training(member.trained, [member], other) == [member]


def test_settings_are_round_and_within_bounds() -> None:
    assert RATE.value(2.718281) == 2.72
    assert RATE.value(9.5) == 8.0
    assert RATIO.value(-0.95) == 0.9
    assert Dial("clusters", whole=True, minimum=16).value(33.4) == 33
