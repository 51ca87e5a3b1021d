"""Gate metrics come from plugins: one that breaks or is gone holds the rollout, it does not break it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from edge_compress.delivery.gatekeeper import Gatekeeper
from edge_compress.domain.gates import Finding, Verdict, Window
from edge_compress.domain.spec import Gate
from edge_compress.plugin import GateMetric, hookimpl
from edge_compress.plugin.registry import Registry


class Broken(GateMetric):
    """Divides by nothing."""

    name: ClassVar[str] = "broken"

    def judge(self, gate: Gate, canary: Window, control: Window) -> Finding:
        return Finding(gate.metric, Verdict.PASS, str(canary.inferences / control.inferences))


class Careless(GateMetric):
    """Returns what is no finding."""

    name: ClassVar[str] = "careless"
    answer: Any = None

    def judge(self, gate: Gate, canary: Window, control: Window) -> Finding:
        return self.answer


class Plugin:
    @hookimpl
    def edge_compress_register_gate_metrics(self) -> list[GateMetric]:
        return [Broken(), Careless()]


def test_a_metric_that_breaks_or_is_gone_leaves_the_question_open() -> None:
    registry = Registry()
    record = registry.register(Plugin(), name="theirs")
    assert record.gate_metrics == ("broken", "careless")
    keeper = Gatekeeper(lambda device: {}, registry)
    found = keeper._judge(Gate("broken", 0.1), Window(1), Window(2))
    assert (found.verdict, found.message) == (Verdict.PASS, "0.5")
    found = keeper._judge(Gate("broken", 0.1), Window(1), Window())
    assert (found.verdict, found.message) == (Verdict.INCONCLUSIVE, "the metric broke: ZeroDivisionError: division by zero")
    found = keeper._judge(Gate("gone", 0.1), Window(), Window())
    assert (found.verdict, found.message) == (Verdict.INCONCLUSIVE, "no plugin offers this metric any more")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "TypeError: it returned NoneType, not a Finding"),
        (Finding("careless", "Maybe", ""), "ValueError: 'Maybe' is not a valid Verdict"),
        (Finding("careless", Verdict.PASS, "", float("nan")), "ValueError: its figures are not finite"),
    ],
)
def test_what_is_no_finding_leaves_the_question_open(answer: Any, said: str) -> None:
    registry = Registry()
    registry.register(Plugin(), name="theirs")
    registry.gate_metrics["careless"].answer = answer  # type: ignore[attr-defined]
    found = Gatekeeper(lambda device: {}, registry)._judge(Gate("careless", 0.1), Window(), Window())
    assert (found.verdict, found.message) == (Verdict.INCONCLUSIVE, f"the metric broke: {said}")
