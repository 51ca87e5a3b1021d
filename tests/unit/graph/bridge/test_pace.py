"""How much training is planned for a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edge_compress.graph.bridge.pace import batch_within, epochs_within, nominal_speed, samples_within
from edge_compress.plugin import Limits


def epochs(
    seconds: float, *, threads: int = 1, samples: int = 10_000, student: float = 4e7, teacher: float = 4e7, pace: float = 0.0
) -> float:
    return epochs_within(Limits(seconds, 1 << 30, threads, pace), samples, student_macs=student, teacher_macs=teacher)


def test_time_threads_and_smaller_students_buy_more_passes() -> None:
    one = epochs(600)
    assert one > 1
    assert epochs(1200) == pytest.approx(2 * one, rel=0.01)
    assert epochs(600, threads=2) == pytest.approx(2 * one, rel=0.01)
    assert epochs(600, samples=20_000) == pytest.approx(one / 2, rel=0.02)
    assert epochs(600, student=2e7) == pytest.approx(one * 4 / 2.5, rel=0.01)


def test_it_is_the_same_each_time_and_within_bounds() -> None:
    assert epochs(600) == epochs(600)
    assert epochs(1e-9) == 1.0
    assert epochs(1e9, student=1.0, teacher=1.0) == 200.0


def test_one_pass_at_the_nominal_speed_takes_its_share_of_the_time() -> None:
    work = 10_000 * (4e7 + 3 * 4e7)
    assert epochs(600) == pytest.approx(600 * 0.85 * nominal_speed() / work, rel=0.02)


def test_a_measured_pace_counts_instead() -> None:
    assert epochs(600, pace=2 * nominal_speed()) == pytest.approx(2 * epochs(600), rel=0.02)


def test_a_batch_is_what_the_memory_bears() -> None:
    layer = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    samples = [torch.zeros(2, 3, 16, 16)]
    one = 2 * 2 * 8 * 16 * 16 * 4  # two layers, kept twice, floats
    assert batch_within(10**9, 64, layer, samples) == 64
    assert batch_within(int(one * 10 / 0.4) + 1, 64, layer, samples) == 10
    assert batch_within(1, 64, layer, samples) == 4
    assert batch_within(1, 2, layer, samples) == 2


def test_large_samples_are_held_by_the_dozen_and_small_ones_all():
    small, large = ({"x": np.zeros((2, 3, side, side), np.float32)} for side in (32, 640))
    assert samples_within(small, 512) == 512
    assert samples_within(large, 512) == 2**27 // (3 * 640 * 640 * 4)
    assert samples_within({"x": np.zeros((1, 3, 4096, 4096), np.int8)}, 512) == 16
    assert samples_within(large, 9) == 9
