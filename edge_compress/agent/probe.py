"""The probe of a candidate on its own device: does it answer right, fast enough, and in the memory it may take?

The model process measures; this decides. A good device is not refused for a neighbour's burst: when a round of timings is
over the limit it is taken again, and the best of three counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_compress.agent.child import RUN_SECONDS, Child
from edge_compress.agent.machine import Assignment
from edge_compress.errors import EdgeCompressError

_ROUNDS, _RUNS, _ROUND_SECONDS, _WARM_UP_RUNS = 3, 60, 1.0, 3


class Refused(EdgeCompressError):
    """The candidate is not fit for this device."""


@dataclass(frozen=True)
class Figures:
    """What the probe saw: seconds of one inference, and bytes that the model added to the runtime's own."""

    p50_seconds: float
    p95_seconds: float
    peak_memory_bytes: int


async def probe(child: Child, assignment: Assignment) -> Figures:
    """Check and measure a loaded candidate. Raises Refused with the figures, ChildFailed."""
    checked = await child.ask("check", RUN_SECONDS * 2, rtol=assignment.rtol, atol=assignment.atol)
    if checked.fields["mismatch"]:
        raise Refused(f"golden vectors disagree: {checked.fields['mismatch']}")
    peak = int(checked.fields["peak_memory_bytes"])
    await child.ask("time", RUN_SECONDS, runs=_WARM_UP_RUNS, seconds=_ROUND_SECONDS)
    figures = Figures(math.inf, math.inf, peak)
    for _ in range(_ROUNDS):
        timed = await child.ask("time", RUN_SECONDS, runs=_RUNS, seconds=_ROUND_SECONDS)
        figures = min(figures, summary(timed.fields["seconds"], peak), key=lambda item: item.p95_seconds)
        if not _too_slow(figures, assignment):
            break
    why = refusal(figures, assignment)
    if why:
        raise Refused(why)
    return figures


def summary(seconds: Sequence[float], peak_memory_bytes: int) -> Figures:
    """The figures of at least one timing."""
    ordered = sorted(seconds)
    return Figures(percentile(ordered, 0.50), percentile(ordered, 0.95), peak_memory_bytes)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ordered values that at least ``share`` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def refusal(figures: Figures, assignment: Assignment) -> str:
    """Why the candidate may not run here, with the figures; empty when it may."""
    reasons = []
    if _too_slow(figures, assignment) and assignment.latency_p95_seconds is not None:
        got, limit = figures.p95_seconds * 1e3, assignment.latency_p95_seconds * 1e3
        reasons.append(f"too slow here: p95 {got:.3g} ms, at most {limit:.3g} ms allowed")
    if assignment.memory_bytes is not None and figures.peak_memory_bytes > assignment.memory_bytes:
        reasons.append(
            f"too much memory here: {figures.peak_memory_bytes / 2**20:.1f} MiB above the runtime's own, "
            f"at most {assignment.memory_bytes / 2**20:.1f} MiB allowed"
        )
    return "; ".join(reasons)


def _too_slow(figures: Figures, assignment: Assignment) -> bool:
    return assignment.latency_p95_seconds is not None and figures.p95_seconds > assignment.latency_p95_seconds
