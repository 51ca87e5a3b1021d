"""Parameters that trade quality for cost step by step, and where to set them: by what candidates that differ in nothing else
lost.

Losses are taken to fall by the same factor for each turn of a dial, between two settings that were measured and at most one such
distance beyond. What is tried when is left to ``worker.search``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from edge_compress.domain.artifact import AppliedStep
from edge_compress.domain.outlook import Outlook, Seen
from edge_compress.domain.plan import Candidate, Dial, Prefix, Proposal

AIM = 0.7
"""share of the allowed drop that a new setting is to lose: what is predicted has noise"""
_GAIN = 0.97
"""of the best, which a new setting must promise to be better than"""
_LEAST = 0.05
"""share of the allowed drop that counts as the least loss: nothing falls for ever"""
_APART = 0.1
"""share of the distance of two known settings that a new one must be from both"""


@dataclass(frozen=True)
class _Setting:
    """One setting of a dial that was measured. ``at``: its value, turned so that quality rises with it."""

    at: float
    seen: Seen
    drop: float


@dataclass(frozen=True)
class _Curve:
    """Candidates that differ in one dial alone, the thriftiest first."""

    position: int
    dial: Dial
    settings: tuple[_Setting, ...]

    def at_drop(self, wanted: float, floor: float) -> float | None:
        """Where the loss is expected to be ``wanted``; None where fewer than two settings tell, or losses do not fall."""
        pair = next(
            ((low, high) for low, high in zip(self.settings, self.settings[1:], strict=False) if low.drop > wanted >= high.drop),
            self.settings[:2] if self.settings[0].drop <= wanted else self.settings[-2:],
        )
        low, high = pair[0], pair[-1]
        before, after = math.log(max(low.drop, floor)), math.log(max(high.drop, floor))
        if low is high or before <= after:
            return None
        share = (before - math.log(max(wanted, floor))) / (before - after)
        return low.at + max(-1.0, min(2.0, share)) * (high.at - low.at)

    def figure_at(self, at: float, figure: Callable[[Seen], float]) -> float:
        """The objective's figure that is expected there."""
        ordered = sorted(self.settings, key=lambda item: abs(item.at - at))[:2]
        one, other = (math.log(max(figure(item.seen), 1e-30)) for item in ordered)
        return math.exp(one + (other - one) * (at - ordered[0].at) / (ordered[1].at - ordered[0].at))

    def candidate_at(self, at: float) -> Candidate | None:
        """The pipeline with its dial there; None where it is too near one that is known."""
        value = self.dial.value(at)
        known = [item.at for item in self.settings]
        nearest = min(abs(item - self.dial.turned(value)) for item in known)
        if nearest < _APART * (max(known) - min(known)) / (len(known) - 1):
            return None
        return turned(self.settings[0].seen.candidate, self.position, self.dial, value)


def settings_between(outlook: Outlook, most: int) -> list[Candidate]:
    """Pipelines that were tried with other settings of a dial, set so that they lose just less than is allowed, where that
    promises to beat the best; the most promising first, at most ``most``."""
    found: list[tuple[float, Candidate]] = []
    best = outlook.best
    reached = math.inf if best is None else outlook.figure(best)
    for curve in _curves(outlook.seen):
        if curve.position < len(curve.settings[0].seen.candidate.trained):
            continue  # each setting would be a training of its own
        at = curve.at_drop(AIM * outlook.max_drop, _LEAST * outlook.max_drop)
        candidate = None if at is None else curve.candidate_at(at)
        if at is None or candidate is None:
            continue
        expected = curve.figure_at(at, outlook.figure) * outlook.spoilt(AIM)
        if expected < _GAIN * reached:
            found.append((expected, candidate))
    return [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])[:most]]


def set_for_training(prefix: Prefix, members: Sequence[Candidate], outlook: Outlook) -> list[Candidate]:
    """The pipelines that begin with a training, its dial set so that it begins with about as much loss as it makes up for:
    told by what the step that it begins with lost without training. As they are where nobody tells."""
    position = len(prefix) - 1
    proposal = members[0].made_of[position]
    curve = _beginning(proposal, outlook)
    if curve is None:
        return list(members)
    at = curve.at_drop(proposal.repairs * outlook.max_drop, _LEAST * outlook.max_drop)
    return list(members) if at is None else [turned(item, position, curve.dial, curve.dial.value(at)) for item in members]


def turned(candidate: Candidate, position: int, dial: Dial, value: float) -> Candidate:
    """The pipeline with one dial set anew; its prediction is not known."""
    made_of = list(candidate.made_of)
    made_of[position] = replace(made_of[position], params={**made_of[position].params, dial.name: value}, begins=None)
    return replace(candidate, steps=tuple(item.step for item in made_of), made_of=tuple(made_of))


def _beginning(proposal: Proposal, outlook: Outlook) -> _Curve | None:
    """The curve of the step that a training begins with, among pipelines of this step alone."""
    if proposal.begins is None:
        return None
    for curve in _curves(outlook.seen):
        candidate = curve.settings[0].seen.candidate
        step = candidate.steps[curve.position]
        named = any(item.name == curve.dial.name for item in proposal.dials)
        if named and not candidate.joint and _but(step, curve.dial.name) == _but(proposal.begins, curve.dial.name):
            return curve
    return None


def _curves(seen: Iterable[Seen]) -> Iterator[_Curve]:
    """Of two settings or more that were measured."""
    grouped: list[tuple[object, int, Dial, list[_Setting]]] = []
    for item in seen:
        quality = item.measured.quality
        for position, proposal in enumerate(item.candidate.made_of if quality else ()):
            for dial in proposal.dials:
                value = proposal.params.get(dial.name)
                if not isinstance(value, (int, float)) or isinstance(value, bool) or quality is None:
                    continue
                key = [_but(step, dial.name if at == position else "") for at, step in enumerate(item.candidate.steps)]
                mates = next((mates for known, at, other, mates in grouped if (known, at, other) == (key, position, dial)), None)
                if mates is None:
                    grouped.append((key, position, dial, mates := []))
                mates.append(_Setting(dial.turned(float(value)), item, quality.drop))
    for _, position, dial, mates in grouped:
        ordered = {mate.at: mate for mate in sorted(mates, key=lambda mate: mate.at)}
        if len(ordered) > 1:
            yield _Curve(position, dial, tuple(ordered.values()))


def _but(step: AppliedStep, name: str) -> tuple[str, str, dict[str, object]]:
    return step.strategy, step.version, {key: value for key, value in step.params.items() if key != name}
