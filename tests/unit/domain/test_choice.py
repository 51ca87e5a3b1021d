"""Which candidate is chosen, and what is said where none meets the goals."""

from __future__ import annotations

from edge_compress.domain.artifact import CandidateResult, Latency, Measurement, Quality, Verdict
from edge_compress.domain.choice import choose
from edge_compress.domain.spec import DeviceProfileSpec


def candidate(drop: float, *, p50: float | None = None, memory: int | None = None) -> CandidateResult:
    """A candidate of 1000 bytes; without ``p50`` it was judged by its quality alone."""
    quality = Quality("top1", 0.9, 0.9 - drop, drop, 1000, (0.8, 0.95))
    latency = None if p50 is None else Latency(p50, 1.2 * p50, ratio_to_float=1.0)
    return CandidateResult((), "measured", measurement=Measurement("0" * 64, 1000, 900, quality, latency, memory))


def test_the_nearest_is_one_that_was_measured_in_full_so_that_the_binding_limit_is_the_real_one() -> None:
    full = candidate(0.0, p50=0.01, memory=40 * 2**20)
    barely_worse_and_never_run = candidate(0.0101)
    choice = choose([full, barely_worse_and_never_run], DeviceProfileSpec(memory=4 * 2**20), max_drop=0.01, objective="latency")
    assert choice.verdict is Verdict.INFEASIBLE
    assert choice.binding_constraint == "memory", "the limit that no candidate keeps"
    assert choice.chosen is not None
    assert choice.chosen.measurement.latency is not None
