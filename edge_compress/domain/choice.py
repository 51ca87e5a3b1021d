"""Which measured candidate a profile gets, why the others lost, and how far off the nearest is when none will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_compress.domain.artifact import AppliedStep, CandidateResult, Measurement, Verdict
from edge_compress.domain.cost import Excess, excesses, in_bytes
from edge_compress.domain.plan import SENT_COUNTS
from edge_compress.domain.spec import DeviceProfileSpec

TIE = 0.03
"""figures closer than this are the same: timing noise does not choose"""


QUALITY_COUNTS = 0.1
"""by how much the objective must be better for the whole of the drop that is allowed to be worth it: on other samples such a
candidate as often as not loses more than is allowed"""

MOST_FALLBACKS = 2
"""that come along with an artifact"""


@dataclass(frozen=True)
class Choice:
    """The verdict with every candidate's fate written down."""

    verdict: Verdict
    binding_constraint: str | None
    gap: str | None
    chosen: CandidateResult | None
    candidates: tuple[CandidateResult, ...]


def choose(results: Sequence[CandidateResult], profile: DeviceProfileSpec, *, max_drop: float, objective: str) -> Choice:
    """Pick by the objective among the candidates that keep every limit; else the nearest one, as INFEASIBLE.

    ``results`` with state "measured" are judged; the others pass through as they are.
    """
    measured = [item for item in results if item.state == "measured"]
    over = {id(item): excesses(item.measurement, profile, max_drop) for item in measured}
    good = [item for item in measured if not over[id(item)] and item.measurement.latency is not None]
    if good:
        best = _best(good, objective, max_drop)
        fates = [_fate(item, best, over.get(id(item), ()), objective) for item in results]
        chosen = next(item for item in fates if item.state == "chosen")
        return Choice(Verdict.FEASIBLE, None, None, chosen, tuple(fates))
    if not measured:
        return Choice(Verdict.INFEASIBLE, _why_nothing_ran(results), _first_failure(results), None, tuple(results))
    # One that was never timed keeps limits only because nobody looked: it is no nearer than those measured in full.
    complete = [item for item in measured if item.measurement.latency is not None] or measured
    nearest = min(complete, key=lambda item: sum(excess.times - 1 for excess in over[id(item)]) or float("inf"))
    worst = max(over[id(nearest)], key=lambda excess: excess.times, default=None)
    fates = [
        replace(item, state="chosen", why="nearest to the goals: " + "; ".join(excess.words for excess in over[id(item)]))
        if item is nearest
        else _fate(item, nearest, over.get(id(item), ()), objective)
        for item in results
    ]
    chosen = next(item for item in fates if item.state == "chosen")
    constraint = worst.constraint if worst else None
    return Choice(Verdict.INFEASIBLE, constraint, worst.words if worst else None, chosen, tuple(fates))


def fallbacks(
    choice: Choice, profile: DeviceProfileSpec, *, max_drop: float, objective: str, most: int = MOST_FALLBACKS
) -> list[CandidateResult]:
    """Next-best candidates that keep every limit, too, for devices that the chosen one turns out not to fit: the best first, each
    made by other strategies than those before it, for one that fails fails for what it is made by. The last is the one that the
    fewest steps lie between it and the original: it is the least likely to fail."""
    if choice.chosen is None or choice.verdict is not Verdict.FEASIBLE:
        return []
    lost = [item for item in choice.candidates if item.state == "lost" and item.measurement.latency is not None]
    good = [item for item in lost if not excesses(item.measurement, profile, max_drop)]
    taken = [choice.chosen]
    for item in sorted(good, key=lambda item: worth(item.measurement, objective, max_drop)):
        if len(taken) <= most and not any(_alike(item, other) for other in taken):
            taken.append(item)
    plainest = min(good, key=lambda item: len(item.steps), default=choice.chosen)
    if len(taken) > most and not any(_alike(plainest, other) for other in taken):
        taken[-1] = plainest
    return taken[1:]


def _alike(one: CandidateResult, other: CandidateResult) -> bool:
    made = [frozenset(step.strategy for step in item.steps) for item in (one, other)]
    return made[0] == made[1] or one.measurement.sha256 == other.measurement.sha256


def undone(
    choice: Choice, profile: DeviceProfileSpec, name: str, original: Measurement, *, max_drop: float, objective: str
) -> tuple[str, ...]:
    """What was left out of the chosen pipeline because it did not help: a sentence for each strategy with which every limit was
    kept too and the artifact was no better. ``name``: the profile's; ``original``: what the float model measured."""
    chosen, found = choice.chosen, dict[str, tuple[float, str]]()
    for item in choice.candidates if chosen else ():
        extra = _extra_step(item.steps, chosen.steps) if chosen and item.state == "lost" else None
        if not chosen or extra is None or item.measurement.latency is None or excesses(item.measurement, profile, max_drop):
            continue
        worth = figure(item.measurement, objective)
        if worth < found.get(extra.strategy, (float("inf"), ""))[0]:
            said = _effect(item.measurement, chosen.measurement, original, objective)
            found[extra.strategy] = worth, f"undone: {extra.strategy} made {name}'s artifact {said}"
    return tuple(said for _, said in found.values())


def _extra_step(steps: Sequence[AppliedStep], without: Sequence[AppliedStep]) -> AppliedStep | None:
    """The one step by which ``steps`` is longer than ``without``; None where they differ otherwise."""
    for at, item in enumerate(steps):
        if [*steps[:at], *steps[at + 1 :]] == list(without):
            return item
    return None


def _effect(mine: Measurement, theirs: Measurement, original: Measurement, objective: str) -> str:
    """What a step did to the objective, and what it saved beside it."""
    ratio = figure(mine, objective) / max(figure(theirs, objective), 1e-12)
    sizes = f"{in_bytes(mine.bytes)} against {in_bytes(theirs.bytes)}"
    saved = (theirs.download_bytes or theirs.bytes) - (mine.download_bytes or mine.bytes)
    beside = f"saved only {in_bytes(saved)} to send" if saved > 0 else "saved nothing"
    if objective == "size":
        return f"{_change(ratio, 'larger', 'smaller')} ({sizes}) and {_speed(mine, theirs)}"
    if objective == "energy":
        return f"{_change(ratio, 'more costly to run', 'cheaper to run')} and {beside}"
    base = 1.0 if original.latency is None else original.latency.p50
    times = [1000 * base * figure(item, "latency") for item in (mine, theirs)]
    shown = f" ({times[0]:.3g} ms against {times[1]:.3g} ms)" if original.latency is not None else ""
    return f"{_change(ratio, 'slower', 'faster')}{shown} and {beside}"


def _change(ratio: float, worse: str, better: str) -> str:
    if abs(ratio - 1) < 0.005:
        return f"no {better}"
    return f"{abs(ratio - 1):.0%} {worse if ratio >= 1 else better}"


def _speed(mine: Measurement, theirs: Measurement) -> str:
    ratio = figure(mine, "latency") / max(figure(theirs, "latency"), 1e-12)
    return "no faster" if ratio >= 1 - TIE else f"only {1 - ratio:.0%} faster"


def figure(measurement: Measurement, objective: str) -> float:
    """What an objective makes small. Size: the bytes that are stored and, four times, those that are sent. Ratios to float where
    they are known, since they hold while the machine drifts; energy without declared watts follows processor time, to which it
    is proportional."""
    if objective == "size" or measurement.latency is None:
        return float(measurement.bytes + SENT_COUNTS * (measurement.download_bytes or measurement.bytes))
    if objective == "energy" and measurement.latency.cpu_ratio is not None:
        return measurement.latency.cpu_ratio
    ratio = measurement.latency.ratio_to_float
    return ratio if ratio is not None else measurement.latency.p50


def worth(measurement: Measurement, objective: str, max_drop: float) -> float:
    """What the best candidate has least of: the objective's figure, made larger by the share of the allowed drop that is lost."""
    return figure(measurement, objective) * spoilt(measurement, max_drop)


def spoilt(measurement: Measurement, max_drop: float) -> float:
    """By how much what is lost of the allowed drop makes a figure count as larger, from 1."""
    lost = measurement.quality.drop if measurement.quality else 0.0
    share = min(1.0, max(0.0, lost / max_drop)) if max_drop > 0 else 0.0
    return 1 + QUALITY_COUNTS * share


def _best(good: Sequence[CandidateResult], objective: str, max_drop: float) -> CandidateResult:
    """The one for which the least is sent of those that are the same by the objective, with or without what their drop counts; a
    drop counts among these as it does there."""
    best = min(good, key=lambda item: worth(item.measurement, objective, max_drop))
    fastest = [item for item in good if _is_as_good(item.measurement, best.measurement, objective, max_drop)]
    sent = {id(item): _sent(item.measurement) * spoilt(item.measurement, max_drop) for item in fastest}
    smallest = [item for item in fastest if sent[id(item)] <= min(sent.values()) * (1 + TIE)]
    return min(smallest, key=lambda item: (_drop(item), len(item.steps)))


def _is_as_good(mine: Measurement, best: Measurement, objective: str, max_drop: float) -> bool:
    plain = figure(mine, objective) <= figure(best, objective) * (1 + TIE)
    return plain or worth(mine, objective, max_drop) <= worth(best, objective, max_drop) * (1 + TIE)


def _sent(measurement: Measurement) -> int:
    """To devices that run what was delivered before, where something was: as an update."""
    if measurement.update_bytes is not None:
        return measurement.update_bytes
    return measurement.download_bytes or measurement.bytes


def _drop(item: CandidateResult) -> float:
    return item.measurement.quality.drop if item.measurement.quality else 0.0


def _fate(item: CandidateResult, best: CandidateResult, over: Sequence[Excess], objective: str) -> CandidateResult:
    if item is best:
        return replace(item, state="chosen", why=f"best {objective} among those that keep every limit")
    if item.state != "measured":
        return item
    if over:
        words = "; ".join(excess.words for excess in over)
        return replace(item, state="lost", why=words)
    mine, theirs = figure(item.measurement, objective), figure(best.measurement, objective)
    if mine < theirs * (1 - TIE):
        lost = f"{max(0.0, _drop(item)):.4f} against {max(0.0, _drop(best)):.4f}"
        return replace(
            item, state="lost", why=f"{objective} is {mine / theirs:.2f} times the chosen one's, not worth a drop of {lost}"
        )
    if mine <= theirs * (1 + TIE):
        sent = "download" if item.measurement.update_bytes is None else "update"
        return replace(item, state="lost", why=f"same {objective} within {TIE:.0%}, but a larger {sent}, more drop or more steps")
    return replace(item, state="lost", why=f"{objective} is {mine / theirs:.2f} times the chosen one's")


def _why_nothing_ran(results: Sequence[CandidateResult]) -> str:
    return "runtime" if any(item.state == "failed" for item in results) else "precision"


def _first_failure(results: Sequence[CandidateResult]) -> str:
    why = next((f": {item.why}" for item in results if item.state == "failed"), "")
    return f"no candidate could be run{why}"
