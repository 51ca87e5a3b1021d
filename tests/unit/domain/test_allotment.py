"""How a budget is shared out among trainings: what is trained, for how long, and that several profiles share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_compress.domain.allotment import TRAINING_SHARE, allot
from edge_compress.domain.plan import Candidate, Plan, Prediction, Proposal, draw_up, pipelines, trainings

OPTIMIZE = Proposal("graph.optimize", "1", "graph", lossless=True)
INT8 = Proposal("quantize.static", "1", "precision", {"bits": 8}, bytes_ratio=0.26, download_ratio=0.25, latency_ratio=0.5)
FEW = Proposal("quantize.static", "1", "precision", {"bits": 3}, bytes_ratio=0.26, download_ratio=0.15, latency_ratio=0.51)
SMALL = Proposal("quantize.weights", "1", "precision", {"bits": 4}, bytes_ratio=0.2, download_ratio=0.12)
QAT = Proposal("quantize.qat", "1", "precision", {"bits": 8}, bytes_ratio=0.26, latency_ratio=0.5, trains=True)
STUDENT = Proposal("distill.student", "1", "structure", bytes_ratio=0.6, download_ratio=0.6, latency_ratio=0.6, trains=True)


def cut(left: float) -> Proposal:
    """A pruned structure."""
    made = Proposal("prune.structured", "1", "structure", {"left": left}, latency_ratio=left, trains=True)
    return replace(made, bytes_ratio=left, download_ratio=left)


def plan_of(*proposals: Proposal, objective: str = "latency") -> Plan:
    """The plan that these make, nothing hopeless."""
    return draw_up("m", "p", objective, pipelines(proposals), [], lambda steps: Prediction(bytes=1), lambda steps, told: None)


def names(candidate: Candidate) -> list[str]:
    """Strategies but for the graph stage."""
    return [item.strategy for item in candidate.made_of if item.stage != "graph"]


def test_what_follows_a_trained_structure_is_the_fastest_and_the_smallest() -> None:
    made = [item for item in plan_of(OPTIMIZE, INT8, FEW, SMALL, cut(0.5)).candidates if item.trains]
    after = [item.made_of[-1] for item in made if len(names(item)) == 2]
    assert {str(item.params) for item in after} == {"{'bits': 8}", "{'bits': 3}", "{'bits': 4}"}
    assert all(item.trained == made[0].trained for item in made), "one training for all of them"
    assert [step.strategy for step in made[0].trained] == ["graph.optimize", "prune.structured"]


def test_trainings_are_counted_and_not_what_follows_them() -> None:
    plan = plan_of(OPTIMIZE, INT8, FEW, *(cut(left / 20) for left in range(8, 18)))
    dear = [item for item in plan.candidates if item.trains]
    assert len(trainings(dear)) == 8
    assert len(dear) == 8 * 3, "each alone, with the fastest and with the smallest precision"
    assert any(refusal.why.startswith("only the") for refusal in plan.refused)


def test_mild_first_proposals_are_not_crowded_out_by_what_promises_more_of_the_objective() -> None:
    mild, deeper = cut(0.85), [replace(cut(left / 20), rank=at) for at, left in enumerate(range(14, 4, -1), 1)]
    plan = plan_of(OPTIMIZE, INT8, QAT, mild, *deeper, STUDENT)
    kept = trainings(plan.candidates)
    assert kept[0][-1].strategy in ("quantize.qat", "distill.student", "prune.structured")
    assert mild.step in [prefix[-1] for prefix in kept[:3]]
    assert len(kept) == 8


def test_what_each_strategy_proposes_first_comes_before_its_other_proposals_and_double_trainings_last() -> None:
    plan = plan_of(OPTIMIZE, INT8, QAT, cut(0.5), replace(cut(0.4), rank=1), STUDENT)
    kinds = [tuple(step.strategy for step in prefix[1:]) for prefix in trainings(plan.candidates)]
    assert set(kinds[:3]) == {("prune.structured",), ("distill.student",), ("quantize.qat",)}
    assert kinds[3] == ("prune.structured",)
    assert trainings(plan.candidates)[3][-1].params == {"left": 0.4}, "though it promises more of the objective"
    assert all(len(kind) == 2 for kind in kinds[4:])


@pytest.mark.parametrize(
    ("budget", "count", "seconds"),
    [(900.0, 2, 0.7 * 900), (120.0, 2, 84.0), (3600.0, 4, 2520.0 / 4)],
)
def test_a_budget_trains_as_many_as_there_are_cores_and_more_only_where_it_is_long(
    budget: float, count: int, seconds: float
) -> None:
    made = allot([plan_of(OPTIMIZE, INT8, cut(0.4), cut(0.5), cut(0.6), STUDENT)], budget, 2)
    assert made.prefixes is not None
    assert len(made.prefixes) == count
    assert made.seconds == pytest.approx(seconds if count == 2 else TRAINING_SHARE * budget / 2)


def test_profiles_share_what_they_have_in_common_and_each_gets_its_best() -> None:
    one, other = plan_of(OPTIMIZE, INT8, cut(0.4), cut(0.5)), plan_of(OPTIMIZE, cut(0.4), cut(0.5))
    together = allot([one, other], 900.0, 2)
    assert together == allot([one], 900.0, 2), "the same trainings for both"
    third, fourth = plan_of(OPTIMIZE, STUDENT), plan_of(QAT)
    many = allot([one, other, third, fourth], 900.0, 2)
    assert many.seconds == pytest.approx(TRAINING_SHARE * 900 / 2), "three kinds on two cores take two turns"
    assert many.prefixes is not None
    assert all(trainings(plan.candidates)[0] in many.prefixes for plan in (one, other, third, fourth))


def test_without_anything_to_train_there_is_nothing_to_share() -> None:
    assert allot([plan_of(OPTIMIZE, INT8)], 900.0, 2).prefixes == ()


def test_what_most_profiles_want_is_trained_before_what_one_alone_does_so_that_each_training_gets_more_time() -> None:
    other = Proposal("lowrank.distil", "1", "structure", bytes_ratio=0.9, download_ratio=0.9, latency_ratio=0.9, trains=True)
    plans = [
        plan_of(OPTIMIZE, INT8, QAT, cut(0.4), other),
        plan_of(OPTIMIZE, cut(0.5), other),
        plan_of(OPTIMIZE, cut(0.6), other),
    ]
    made = allot(plans, 900.0, 2)
    assert made.seconds == pytest.approx(TRAINING_SHARE * 900), "all of them at once, not in turns"
    assert made.prefixes is not None
    assert len(made.prefixes) == 2
    assert made.prefixes[0][-1].strategy == "lowrank.distil", "it promises none of them most, and serves all"
    assert made.prefixes[1] == trainings(plans[0].candidates)[0]
