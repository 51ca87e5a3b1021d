"""Schedules of pruning: rounds that arrive, and time for each."""

from __future__ import annotations

import pytest
from edge_compress_prune.schedule import Schedule


def test_schedules_end_at_the_target() -> None:
    assert Schedule("one-shot", 5).targets(0.5) == [0.5]
    assert Schedule("iterative", 4).targets(0.5) == pytest.approx([0.875, 0.75, 0.625, 0.5])
    cubic = Schedule("agp", 4).targets(0.5)
    steps = [before - after for before, after in zip([1.0, *cubic], cubic, strict=False)]
    assert cubic[-1] == pytest.approx(0.5)
    assert steps == sorted(steps, reverse=True)


def test_the_last_round_trains_longest_and_none_is_lost() -> None:
    assert Schedule().spans(10) == [10]
    parts = Schedule("agp", 3).spans(10)
    assert sum(parts) == pytest.approx(10)
    assert parts[-1] > parts[0]
