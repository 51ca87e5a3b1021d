"""The order of a search, on a simulated runner: what a candidate costs and loses follows from its parameters."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from edge_compress.domain.allotment import Allotment
from edge_compress.domain.artifact import AppliedStep, Latency, Measurement, Quality
from edge_compress.domain.model import ModelFacts
from edge_compress.domain.plan import Candidate, Dial, Plan, Proposal
from edge_compress.domain.spec import DeviceProfile, Model, parse_resource
from edge_compress.plugin.registry import Registry
from edge_compress.worker.budget import Budget, Clock
from edge_compress.worker.candidates import CandidateRunner, Gate, Tried, open_gate
from edge_compress.worker.costing import DeviceCosts
from edge_compress.worker.inputs import PairRequest
from edge_compress.worker.search import Search
from edge_compress.worker.steps import Run

RATE = Dial("rate", minimum=1.0, maximum=8.0)


def few_bits(rate: float) -> Proposal:
    return Proposal("static", "1", "precision", {"rate": rate}, bytes_ratio=0.3, download_ratio=rate / 32, dials=(RATE,))


def trained(rate: float) -> Proposal:
    begins = AppliedStep("static", "1", {"rate": rate})
    return Proposal(
        "qat", "1", "precision", {"rate": rate}, bytes_ratio=0.3, download_ratio=rate / 32, trains=True, dials=(RATE,),
        begins=begins, repairs=2.0,
    )  # fmt: skip


def cut(name: str) -> Proposal:
    return Proposal(name, "1", "structure", bytes_ratio=0.1, download_ratio=0.05, trains=True)


class Simulated:
    """Integers lose four times as much for each bit less, a third of that after training; what is called broken fails."""

    facts = ModelFacts("0" * 64, 100_000, 17, (), (), weight_bytes=100_000)
    evaluation_seconds = 0.0

    def __init__(self, costs: DeviceCosts) -> None:
        self.costs = costs
        self.asked: list[tuple[str, float | None]] = []

    def baseline(self, run: Run) -> Measurement:
        return self.float_measurement(run)

    def float_measurement(self, run: Run) -> Measurement:
        return Measurement("f" * 64, 100_000, 100_000, latency=Latency(0.01, 0.01, ratio_to_float=1.0))

    def attempt(self, candidate: Candidate, run: Run, gate: Gate = open_gate) -> Tried:
        step = candidate.steps[-1] if candidate.steps else AppliedStep("nothing")
        rate = step.params.get("rate")
        self.asked.append((step.strategy, rate))
        if "broken" in step.strategy:
            return Tried(candidate, "failed", "as its name says")
        bits = 32.0 if rate is None else float(rate)
        lost = 0.0 if rate is None else 0.01 * 4 ** (3.0 - bits) / (3 if step.strategy == "qat" else 1)
        size = int(100_000 * bits / 32)
        quality = Quality("top1", 0.9, 0.9 - lost, lost, 1000, (0.88, 0.92))
        return Tried(candidate, measurement=Measurement(f"{size:064d}", size, size, quality))

    def measure(self, tried: Sequence[Tried], max_drop: float, run: Run) -> list[Tried]:
        timed = Latency(0.005, 0.005, ratio_to_float=0.5)
        return [replace(item, measurement=replace(item.measurement, latency=timed)) for item in tried]

    def settled(self, tried: Sequence[Tried], run: Run) -> list[Tried]:
        return list(tried)


def searched(
    *made_of: Sequence[Proposal], seconds: float = 100.0, cores: int = 1, previous: str = ""
) -> tuple[Simulated, list[Tried]]:
    """What a search of these pipelines asked for and found, with time for the first one that trains."""
    candidates = tuple(
        Candidate(tuple(item.step for item in parts), trains=any(item.trains for item in parts), made_of=tuple(parts))
        for parts in made_of
    )
    trains = [item.trained for item in candidates if item.trains]
    budget = Budget(Clock(deadline=time.monotonic() + 3600), Allotment(seconds, tuple(trains[:1])))
    model = parse_resource(
        {"kind": "Model", "metadata": {"name": "m"}, "spec": {"source": "m.onnx", "quality": {"max_drop": 0.01}}}
    )
    profile = parse_resource({"kind": "DeviceProfile", "metadata": {"name": "p"}, "spec": {}})
    request = PairRequest(cast(Model, model), cast(DeviceProfile, profile), None, "size", previous=previous)
    runner = Simulated(DeviceCosts(request, Simulated.facts, Registry()))
    search = Search(request, cast(CandidateRunner, runner), cores, Run(threading.Event()), budget)
    return runner, search.tried(Plan("m", "p", "size", candidates))


def rates(runner: Simulated, strategy: str) -> list[Any]:
    return [rate for name, rate in runner.asked if name == strategy]


def test_a_setting_between_one_that_loses_too_much_and_one_that_loses_little_wins() -> None:
    runner, found = searched([few_bits(2.0)], [few_bits(5.0)])
    assert rates(runner, "static")[:2] == [2.0, 5.0]
    best = min((item for item in found if item.measurement.quality.drop <= 0.01), key=lambda item: item.measurement.bytes)  # type: ignore[union-attr]
    assert 3.0 < best.candidate.steps[0].params["rate"] < 3.5


def test_a_training_begins_where_it_can_make_up_for_the_loss() -> None:
    runner, _ = searched([few_bits(2.0)], [few_bits(5.0)], [trained(2.2)])
    (rate,) = rates(runner, "qat")
    assert 2.3 < rate < 2.7, "4 times the loss for each bit: twice what is allowed lies half a bit under three"


def test_a_training_is_as_proposed_where_nothing_tells_better() -> None:
    runner, _ = searched([few_bits(2.0)], [trained(2.2)])
    assert rates(runner, "qat") == [2.2]


def test_what_is_trained_in_the_place_of_a_failure_is_set_as_well() -> None:
    runner, _ = searched([few_bits(2.0)], [few_bits(5.0)], [cut("broken")], [trained(2.2)])
    assert [name for name, _ in runner.asked if name in ("broken", "qat")] == ["broken", "qat"]
    assert rates(runner, "qat") != [2.2]


def test_any_other_training_takes_the_place_of_failures_while_there_is_time() -> None:
    later = replace(cut("later"), rank=1)
    runner, _ = searched([few_bits(4.0)], [cut("broken")], [cut("broken too")], [later])
    assert [name for name, _ in runner.asked][1:4] == ["broken", "broken too", "later"]
    hurried, _ = searched([few_bits(4.0)], [cut("broken")], [later], seconds=5000.0)
    assert "later" not in [name for name, _ in hurried.asked]


def test_what_comes_near_the_best_is_made_again_near_to_what_devices_run() -> None:
    able, earlier = replace(few_bits(3.5), keeps="scales_of"), "e" * 64
    for previous in (earlier, ""):
        _, tried = searched([few_bits(4.0)], [able], previous=previous)
        named = {step.params.get("scales_of") for item in tried for step in item.candidate.steps}
        assert (earlier in named) == bool(previous)
