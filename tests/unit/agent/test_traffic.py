"""A trial under applications' traffic: who answers, and what comes of a candidate that fails at it, with played processes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from edge_compress.agent import traffic as module
from edge_compress.agent.child import ChildFailed
from edge_compress.agent.framing import Frame
from edge_compress.agent.machine import Assignment
from edge_compress.agent.probe import Refused
from edge_compress.agent.report import Reports
from edge_compress.agent.slots import Slots
from edge_compress.agent.traffic import Traffic
from edge_compress.errors import InvalidInput

COST = {"seconds": 0.001, "cpu_seconds": 0.001}


class Process:
    """Answers; ``failing``: what comes of an application's inference."""

    pid = 1

    def __init__(self, failing: ChildFailed | None = None) -> None:
        self.failing, self.asked, self.killed = failing, 0, False

    async def ask(self, verb: str, within: float, arrays: Any = (), **fields: Any) -> Frame:
        await asyncio.sleep(0)
        if verb != "infer":
            return Frame({**COST, "mismatch": ""})
        self.asked += 1
        if self.failing is not None:
            raise self.failing
        return Frame(COST)

    def check_alive(self) -> None:
        if self.killed:
            raise ChildFailed("the model process was killed", died=True)

    def kill(self) -> None:
        self.killed = True


def assignment(name: str, digit: str) -> Assignment:
    return Assignment(name, f"vision-{name}", "vision", digit * 64, 10, "f" * 64, 10, 1, version=name)


OLD, NEW = assignment("old", "a"), assignment("new", "b")


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    made = Traffic(Slots(tmp_path), Reports("boot"), random.Random(0))
    made.serve(OLD, Process())  # type: ignore[arg-type]
    return made


async def tried(traffic: Traffic, candidate: Any) -> list[str]:
    """Applications ask again and again during a trial; who answered them. Raises what the trial does."""
    answered: list[str] = []

    async def ask() -> None:
        while True:
            answered.append((await traffic.predict([]))[0].version)

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0.01)
    try:
        await traffic.try_out(NEW, candidate)
    finally:
        await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert not asking.done() or asking.cancelled()
    return answered


async def test_a_candidate_answers_applications_in_its_trial(traffic: Traffic) -> None:
    answered = await tried(traffic, Process())
    first = answered.index("new")
    assert answered[0] == answered[-1] == "old"
    assert answered[first : first + module.TRIAL_INFERENCES] == ["new"] * module.TRIAL_INFERENCES
    reports = {subject.version: totals for subject, totals in traffic._reports.waiting().items()}
    assert reports["new"].inferences["ok"] >= 2 * module.TRIAL_INFERENCES


@pytest.mark.parametrize("died", [True, False])
async def test_one_that_fails_at_what_the_serving_one_can_do_is_refused_and_nobody_is_turned_away(
    traffic: Traffic, died: bool
) -> None:
    candidate = Process(ChildFailed("the model process could not infer: no memory", died=died))
    with pytest.raises(Refused, match="failed at an application's inference in the trial: the model process could not infer"):
        await tried(traffic, candidate)
    assert candidate.asked == 1
    assert traffic._trial is None
    assert (await traffic.predict([]))[0].version == "old"


async def test_inputs_that_neither_takes_are_the_inputs_fault(traffic: Traffic) -> None:
    refusal = ChildFailed("the model process could not infer: no input x", died=False)
    traffic.serve(OLD, Process(refusal))  # type: ignore[arg-type]
    trial = asyncio.create_task(traffic.try_out(NEW, Process(refusal)))  # type: ignore[arg-type]
    while traffic._trial is None:  # noqa: ASYNC110  # each round is a step of the test
        await asyncio.sleep(0)
    with pytest.raises(InvalidInput, match="no input x"):
        await traffic.predict([])
    assert traffic._trial is not None
    assert traffic._trial.failure == ""
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)


async def test_without_applications_golden_inputs_are_enough(traffic: Traffic) -> None:
    candidate = Process()
    await traffic.try_out(NEW, candidate)  # type: ignore[arg-type]
    assert candidate.asked == 0


async def test_one_that_dies_while_nobody_asks_is_no_success(traffic: Traffic) -> None:
    candidate = Process()
    candidate.kill()
    with pytest.raises(ChildFailed, match="was killed"):
        await traffic.try_out(NEW, candidate)  # type: ignore[arg-type]
