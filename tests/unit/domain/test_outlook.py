"""What measured candidates say about others: corrected expectations, lost causes, and what cannot win any more."""

from __future__ import annotations

import pytest

from edge_compress.domain.artifact import Latency, Measurement, Quality
from edge_compress.domain.outlook import Outlook, Seen
from edge_compress.domain.plan import Candidate, Proposal
from edge_compress.domain.spec import DeviceProfileSpec

OPTIMIZE = Proposal("graph.optimize", "1", "graph", lossless=True)
CUT = Proposal("lowrank.svd", "1", "structure", bytes_ratio=0.8, download_ratio=0.8, latency_ratio=0.8)
INT8 = Proposal("quantize.static", "1", "precision", bytes_ratio=0.25, download_ratio=0.25, latency_ratio=0.5)
TRAINED = Proposal("prune.structured", "1", "structure", bytes_ratio=0.9, download_ratio=0.9, latency_ratio=0.9, trains=True)
ORIGINAL = Measurement("f" * 64, 1000, 1000, latency=Latency(0.01, 0.012, ratio_to_float=1.0))


def candidate(*made_of: Proposal) -> Candidate:
    """A pipeline of these."""
    return Candidate(tuple(item.step for item in made_of), trains=any(item.trains for item in made_of), made_of=made_of)


def seen(*made_of: Proposal, size: int = 1000, ratio: float | None = 1.0, drop: float = 0.0) -> Seen:
    """A pipeline that ran, with its figures."""
    quality = Quality("top1", 0.9, 0.9 - drop, drop, 1000, (0.88, 0.92))
    latency = None if ratio is None else Latency(0.01 * ratio, 0.012 * ratio, ratio_to_float=ratio)
    return Seen(candidate(*made_of), Measurement("0" * 64, size, size, quality, latency, 100))


def outlook(*ran: Seen, objective: str = "latency") -> Outlook:
    """What these say, with a drop of 0.01 allowed."""
    return Outlook(ran, ORIGINAL, DeviceProfileSpec(), 0.01, objective)


def test_a_step_that_did_less_than_expected_is_expected_to_do_less_in_other_pipelines() -> None:
    known = outlook(seen(OPTIMIZE), seen(OPTIMIZE, CUT, size=900, ratio=1.2), seen(OPTIMIZE, INT8, size=300, ratio=0.4))
    expected = known.expected(candidate(OPTIMIZE, CUT, INT8))
    assert expected.latency == pytest.approx(1.2 * 0.4)
    assert expected.bytes == pytest.approx(0.9 * 0.3)
    unknown = outlook().expected(candidate(OPTIMIZE, CUT, INT8))
    assert (unknown.latency, unknown.bytes) == (pytest.approx(0.4), pytest.approx(0.2))


def test_the_best_keeps_every_limit_and_was_timed() -> None:
    fast_but_wrong, untimed = seen(INT8, ratio=0.1, drop=0.2), seen(CUT, ratio=None)
    assert outlook(fast_but_wrong, untimed).best is None
    right = seen(OPTIMIZE, ratio=0.9)
    assert outlook(fast_but_wrong, untimed, right).best is right


def test_a_pipeline_is_a_lost_cause_where_one_of_its_steps_alone_loses_too_much() -> None:
    known = outlook(seen(OPTIMIZE), seen(OPTIMIZE, CUT, drop=0.0948), seen(OPTIMIZE, INT8, drop=0.002))
    why = known.lost_cause(candidate(OPTIMIZE, CUT, INT8))
    assert why == "lowrank.svd alone drops top1 by 0.0948, more than the 0.01 allowed"
    assert not known.lost_cause(candidate(OPTIMIZE, CUT, INT8, TRAINED)), "training may repair"
    failed = outlook(seen(OPTIMIZE, TRAINED, drop=0.05))
    assert failed.lost_cause(candidate(OPTIMIZE, TRAINED, INT8)).startswith("prune.structured alone drops top1 by 0.0500")
    assert not outlook(seen(OPTIMIZE, CUT, drop=0.012)).lost_cause(candidate(OPTIMIZE, CUT, INT8)), "a drop has noise"


def test_what_cannot_win_even_with_the_benefit_of_the_doubt_is_told_with_figures() -> None:
    known = outlook(seen(OPTIMIZE), seen(OPTIMIZE, INT8, size=250, ratio=0.5))
    why = known.cannot_beat(candidate(OPTIMIZE, TRAINED))
    reached = "0.50 times the original's latency of quantize.static"
    assert why == f"expected 0.90 times the original's latency cannot beat {reached}"
    assert not known.cannot_beat(candidate(OPTIMIZE, TRAINED, INT8))
    assert not outlook().cannot_beat(candidate(TRAINED)), "there is nothing to beat yet"


def test_a_training_of_which_nobody_told_what_to_expect_is_tried() -> None:
    silent = Proposal("stranger.train", "1", "structure", trains=True)
    known = outlook(seen(OPTIMIZE, INT8, size=250, ratio=0.5))
    assert not known.cannot_beat(candidate(silent))
    assert known.cannot_beat(candidate(OPTIMIZE)), "what trains nothing is expected to stay as it is"


def test_a_file_that_is_larger_than_the_best_has_lost_where_size_counts() -> None:
    small = seen(OPTIMIZE, INT8, size=84 * 1024)
    made = Measurement("0" * 64, 96 * 1024, 96 * 1024)
    assert (
        outlook(small, objective="size").beaten(made) == "480Ki stored and sent four times cannot beat 420Ki of quantize.static"
    )
    assert not outlook(small, objective="latency").beaten(made)
    assert not outlook(small, objective="size").beaten(Measurement("0" * 64, 85 * 1024, 85 * 1024)), "within a tie"


def test_what_cannot_keep_a_limit_is_not_trained_for_it() -> None:
    known = Outlook([], ORIGINAL, DeviceProfileSpec(latency_p95=0.001), 0.01, "latency")
    assert known.cannot_meet(candidate(TRAINED)) == "expected: latency_p95 9ms is 9.00 times the 1ms allowed"
    near = Outlook([], ORIGINAL, DeviceProfileSpec(latency_p95=0.008), 0.01, "latency")
    assert not near.cannot_meet(candidate(TRAINED)), "an expectation may be wrong"
    assert not known.cannot_meet(candidate(Proposal("stranger.train", "1", "structure", trains=True)))


def test_contenders_are_those_near_the_best_that_keep_every_limit() -> None:
    best, near = seen(INT8, ratio=0.5), seen(CUT, ratio=0.55)
    known = outlook(near, best, seen(TRAINED, ratio=0.9), seen(CUT, INT8, ratio=0.45, drop=0.5))
    assert known.contenders(0.25, 5) == [best, near]
    assert known.contenders(0.25, 1) == [best]
    assert outlook().contenders(0.25, 5) == []
