from __future__ import annotations

import dataclasses

import pytest

from edge_compress.agent.probe import Figures, percentile, refusal, summary
from tests.unit.agent.test_machine import assignment


def test_percentiles_are_by_nearest_rank() -> None:
    ordered = [float(number) for number in range(1, 21)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.95), percentile(ordered, 1.0)) == (10.0, 19.0, 20.0)
    assert percentile([3.0], 0.95) == 3.0
    assert summary([3.0, 1.0, 2.0], 5) == Figures(2.0, 3.0, 5)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, ""),
        ({"latency_p95_seconds": 0.02, "memory_bytes": 2**20}, ""),
        ({"latency_p95_seconds": 0.01}, "too slow here: p95 20 ms, at most 10 ms allowed"),
        ({"memory_bytes": 2**19}, "too much memory here: 1.0 MiB above the runtime's own, at most 0.5 MiB allowed"),
    ],
)
def test_a_candidate_is_refused_only_above_a_limit(limits: dict[str, float], said: str) -> None:
    assert refusal(Figures(0.01, 0.02, 2**20), dataclasses.replace(assignment(), **limits)) == said


def test_every_reason_is_given() -> None:
    both = dataclasses.replace(assignment(), latency_p95_seconds=0.001, memory_bytes=1)
    assert refusal(Figures(0.01, 0.02, 2**20), both).count("too ") == 2
