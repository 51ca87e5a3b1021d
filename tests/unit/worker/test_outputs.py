"""Which outputs have a row for each sample, and which candidates are refused for an output that no metric looks at."""

from __future__ import annotations

import numpy as np
import pytest

from edge_compress.errors import StepFailed
from edge_compress.worker.outputs import Companions, with_rows

DRAW = np.random.default_rng(0)
SCORES, BOXES = DRAW.standard_normal((64, 10)), 50 * DRAW.standard_normal((64, 4))
CLASSES = SCORES.argmax(axis=1)


def seen(*pairs: tuple[object, object]) -> Companions:
    companions = Companions()
    for ours, theirs in pairs:
        companions.see([SCORES, ours], [SCORES, theirs])
    return companions


def test_outputs_with_a_row_for_each_sample_are_those_that_metrics_see() -> None:
    assert with_rows([np.zeros((2, 7)), SCORES, np.float32(1), BOXES], 64) == [1, 3]


def test_without_any_the_shapes_are_told() -> None:
    with pytest.raises(StepFailed, match=r"read shapes \(\), \(2, 7\) for 64 samples") as failed:
        with_rows([np.float32(1), np.zeros((2, 7))], 64)
    assert failed.value.reason == "output"


@pytest.mark.parametrize("noise", [0.0, 5.0, 30.0])
def test_noise_below_what_the_original_varies_by_is_for_metrics_to_judge(noise: float) -> None:
    seen((BOXES + noise * DRAW.standard_normal(BOXES.shape), BOXES)).refuse_strangers()


@pytest.mark.parametrize("strange", [BOXES[::-1], np.zeros_like(BOXES), 3 * BOXES], ids=["shuffled", "zeros", "scaled"])
def test_an_output_that_has_nothing_to_do_with_the_originals_is_refused(strange: np.ndarray) -> None:
    with pytest.raises(StepFailed, match="output 1 does not follow"):
        seen((strange, BOXES)).refuse_strangers()


def test_all_batches_count_together() -> None:
    halves = seen((BOXES[:32], BOXES[:32]), (BOXES[32:] + 20, BOXES[32:]))
    halves.refuse_strangers()
    with pytest.raises(StepFailed, match="output 1"):
        seen((BOXES[:32], BOXES[:32]), (BOXES[32:] + 90, BOXES[32:])).refuse_strangers()


def test_whole_numbers_must_mostly_be_equal() -> None:
    seen((np.where(np.arange(64) % 3 == 0, -1, CLASSES), CLASSES)).refuse_strangers()
    with pytest.raises(StepFailed, match=r"output 1 .* is equal"):
        seen((CLASSES + 1, CLASSES)).refuse_strangers()


def test_constants_infinities_and_found_things_are_no_strangers() -> None:
    constant = np.full((64, 3), 7.0)
    masked = np.where(SCORES > 0, SCORES, -np.inf)
    seen((constant + 0.1, constant), (masked, masked), (np.zeros((2, 3)), np.zeros((2, 5)))).refuse_strangers()
    with pytest.raises(StepFailed, match="output 1"):
        seen((constant + 1.0, constant)).refuse_strangers()
