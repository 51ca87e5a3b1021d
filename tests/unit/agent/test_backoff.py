from __future__ import annotations

import random

from edge_compress.agent.backoff import FIRST_SECONDS, MOST_SECONDS, Backoff


class Highest(random.Random):
    """Always the most that a draw can be."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_ceilings_double_up_to_the_most_and_start_over_after_a_reset() -> None:
    backoff = Backoff(Highest())
    delays = [backoff.next() for _ in range(100)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-1] == max(delays) == MOST_SECONDS
    backoff.reset()
    assert backoff.next() == FIRST_SECONDS


def test_delays_are_spread_and_repeat_with_the_seed() -> None:
    first, again, other = (Backoff(random.Random(seed)) for seed in (1, 1, 2))
    delays = [first.next() for _ in range(50)]
    assert delays == [again.next() for _ in range(50)]
    assert delays != [other.next() for _ in range(50)]
    assert min(delays[10:]) < MOST_SECONDS * 0.25
    assert max(delays[10:]) > MOST_SECONDS * 0.75
