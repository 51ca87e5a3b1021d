"""Whether what devices report says that their class misses its goals, and what would be chosen instead. Pure.

The same limits and the same choice as when the artifact was made, with what devices would report in the place of what was
foretold. Only candidates that were measured are chosen among: what else there may be shows when the pair is compressed anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_compress.domain.artifact import CandidateResult, Measurement, Outcome, Verdict
from edge_compress.domain.calibration import Corrections, arithmetic, as_reported
from edge_compress.domain.choice import choose
from edge_compress.domain.cost import excesses
from edge_compress.domain.spec import DeviceProfileSpec

_SURELY = 1.05
"""times over a limit: corrections have their own error"""
_ON_DEVICES = frozenset({"latency_p95", "rate", "power_budget", "memory"})


@dataclass(frozen=True)
class Miss:
    """A class that misses its goals. ``better``: sha256 of what would keep them; empty: nothing that was measured does."""

    words: str
    proposal: str
    better: str = ""


@dataclass(frozen=True)
class Goals:
    """What a pair is held to."""

    profile: DeviceProfileSpec
    max_drop: float
    objective: str


def missed(
    outcome: Outcome, sha256: str, goals: Goals, corrections: Corrections, needs: Mapping[str, Sequence[str]]
) -> Miss | None:
    """What the artifact with this digest misses; None: nothing, or too little was reported. ``needs``: precisions by strategy."""
    candidates = [_corrected(one, goals, corrections, needs) for one in outcome.candidates if one.measurement.sha256]
    runs = next((one for one in candidates if one.measurement.sha256 == sha256), None)
    if runs is None or not _was_reported(corrections, arithmetic(runs.steps, needs)):
        return None
    over = [item for item in excesses(runs.measurement, goals.profile, goals.max_drop) if item.constraint in _ON_DEVICES]
    if not any(item.times > _SURELY for item in over):
        return None
    words = "; ".join(item.words for item in over)
    choice = choose(candidates, goals.profile, max_drop=goals.max_drop, objective=goals.objective)
    chosen = choice.chosen
    if choice.verdict is not Verdict.FEASIBLE or chosen is None or chosen.measurement.sha256 == sha256:
        return Miss(words, f"nothing that was measured keeps every limit: {choice.gap}")
    return Miss(words, f"proposed instead: {_told(chosen)}", chosen.measurement.sha256)


def _corrected(
    one: CandidateResult, goals: Goals, corrections: Corrections, needs: Mapping[str, Sequence[str]]
) -> CandidateResult:
    """A candidate, to be judged again by what devices would report of it."""
    plain, kind = one.uncorrected or one.measurement, arithmetic(one.steps, needs)
    state = "measured" if one.state in ("chosen", "lost", "measured") else one.state
    return replace(one, state=state, measurement=as_reported(plain, corrections, kind, goals.profile.threads))


def _was_reported(corrections: Corrections, kind: str) -> bool:
    """Whether enough was reported of this arithmetic itself, so that nothing is inferred from another."""
    return any(one.quantity == "latency" and one.arithmetic == kind for one in corrections.factors)


def _told(chosen: CandidateResult) -> str:
    """What it is made by, and what devices would report of it."""
    steps = ", ".join(step.strategy for step in chosen.steps) or "the original"
    return f"{steps} ({_figures(chosen.measurement)})"


def _figures(measured: Measurement) -> str:
    latency, joules, memory = measured.latency, measured.energy.joules, measured.peak_memory_bytes
    said = [f"p95 {1000 * latency.p95:.3g}ms"] if latency else []
    said += [f"{1000 * joules:.3g}mJ"] if joules is not None else []
    said += [f"memory {memory / 2**20:.3g}Mi"] if memory is not None else []
    return ", ".join(said)
