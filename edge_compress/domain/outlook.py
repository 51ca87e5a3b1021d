"""What the candidates that were measured say about those that were not: corrected expectations, and which cannot win any more.

Expectations are those of the strategies, corrected by what each step was measured to do in another pipeline. What is certain
(a size) is compared as it is; what is expected gets the benefit of the doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_compress.domain.artifact import Measurement
from edge_compress.domain.choice import QUALITY_COUNTS, TIE, figure, worth
from edge_compress.domain.cost import corrected, excesses, in_bytes, predicted_excesses
from edge_compress.domain.plan import SENT_COUNTS, Candidate, Proposal, Ratios, ratios
from edge_compress.domain.spec import DeviceProfileSpec

_DOUBT = 0.75
"""an expected figure may turn out this much smaller"""
_REPAIR = 0.005
"""drop by which a step after it may better a structure: what is measured has noise"""


@dataclass(frozen=True)
class Seen:
    """A candidate that ran, with its figures as they are on the device."""

    candidate: Candidate
    measured: Measurement


class Outlook:
    """See the module. ``original``: the float original's figures."""

    def __init__(
        self, seen: Sequence[Seen], original: Measurement, profile: DeviceProfileSpec, max_drop: float, objective: str
    ) -> None:
        self.seen, self._original, self._profile = tuple(seen), original, profile
        self.max_drop, self._objective = max_drop, objective

    @property
    def best(self) -> Seen | None:
        """The one that keeps every limit and is best by the objective; None: none keeps them all."""
        return min(self._good(), key=self._worth, default=None)

    def figure(self, item: Seen) -> float:
        """What the objective makes small, of something that was measured."""
        return figure(item.measured, self._objective)

    @staticmethod
    def spoilt(share: float) -> float:
        """By how much a share of the allowed drop makes a figure count as larger."""
        return 1 + QUALITY_COUNTS * share

    def _worth(self, item: Seen) -> float:
        return worth(item.measured, self._objective, self.max_drop)

    def _good(self) -> list[Seen]:
        return [
            item
            for item in self.seen
            if item.measured.latency is not None and not excesses(item.measured, self._profile, self.max_drop)
        ]

    def contenders(self, near: float, most: int) -> list[Seen]:
        """The best and those that keep every limit and are worse by at most a share of ``near``, best first, at most ``most``."""
        if self.best is None:
            return []
        limit = self._worth(self.best) * (1 + near)
        return sorted((item for item in self._good() if self._worth(item) <= limit), key=self._worth)[:most]

    def expected(self, candidate: Candidate) -> Ratios:
        """Multiples of the float original's figures, corrected by what was measured."""
        plain = ratios(candidate.made_of)
        factors = [self._factor(item) for item in candidate.made_of]
        for item in factors:
            plain = Ratios(plain.bytes * item.bytes, plain.download * item.download, plain.latency * item.latency, plain.memory)
        return plain

    def weight(self, candidate: Candidate) -> float:
        """What to sort by: the objective's expected figure."""
        return self._figure_of(self.expected(candidate))

    def lost_cause(self, candidate: Candidate) -> str:
        """Why a pipeline of several steps cannot keep the quality: one of its steps alone loses too much. Empty: it may."""
        alone = [item for item in self.seen if _is_part(item.candidate, candidate)]
        for item in alone:
            quality = item.measured.quality
            if quality is not None and quality.drop > self.max_drop + _REPAIR:
                name = item.candidate.steps[-1].strategy
                return f"{name} alone drops {quality.metric} by {quality.drop:.4f}, more than the {self.max_drop:g} allowed"
        return ""

    def cannot_beat(self, candidate: Candidate) -> str:
        """Why a candidate is not expected to be better than the best so far; empty: it may be, or nobody told what to expect."""
        best = self.best
        if best is None or _silent(candidate):
            return ""
        spoilt = self._worth(best) / figure(best.measured, self._objective)
        expected, reached = self._figure_of(self.expected(candidate)), spoilt * self._figure_of(self._reached(best.measured))
        if expected * _DOUBT <= reached * (1 + TIE):
            return ""
        return f"expected {self._words(expected)} cannot beat {self._words(reached)} of {_name(best.candidate)}"

    def cannot_meet(self, candidate: Candidate) -> str:
        """Why a candidate is not expected to keep the profile's limits; empty: it may, or nobody told what to expect."""
        if _silent(candidate):
            return ""
        expected = corrected(self.expected(candidate), self._original)
        over = predicted_excesses(expected, self._profile, margin=1 / _DOUBT)
        return "expected: " + "; ".join(item.words for item in over) if over else ""

    def beaten(self, made: Measurement) -> str:
        """Why a file of known size has lost already, where size is what counts; empty: it may win yet."""
        best = self.best
        if best is None or self._objective != "size":
            return ""
        mine, theirs = figure(made, "size"), self._worth(best)
        if mine <= theirs * (1 + TIE):
            return ""
        return f"{in_bytes(mine)} stored and sent four times cannot beat {in_bytes(theirs)} of {_name(best.candidate)}"

    def _factor(self, step: Proposal) -> Ratios:
        """What a step was measured to do beside what it was expected to do, where a pipeline with it and one without it ran."""
        for item in self.seen:
            parts = item.candidate.made_of
            if not parts or parts[-1] != step:
                continue
            before = next((other for other in self.seen if other.candidate.made_of == parts[:-1]), None)
            if before is not None:
                return _quotient(self._reached(item.measured), self._reached(before.measured), ratios([step]))
        return Ratios()

    def _reached(self, measured: Measurement) -> Ratios:
        """Measured figures as multiples of the original's; latency 0 where it was not measured."""
        here, latency = self._original, measured.latency
        sent, sent_of = measured.download_bytes or measured.bytes, here.download_bytes or here.bytes
        faster = 0.0 if latency is None else figure(measured, "energy" if self._objective == "energy" else "latency")
        return Ratios(measured.bytes / max(here.bytes, 1), sent / max(sent_of, 1), faster)

    def _figure_of(self, known: Ratios) -> float:
        """The objective's figure in its own unit: bytes stored and sent four times, or multiples of the original's latency."""
        if self._objective != "size":
            return known.latency
        here = self._original
        return known.bytes * here.bytes + SENT_COUNTS * known.download * (here.download_bytes or here.bytes)

    def _words(self, value: float) -> str:
        if self._objective == "size":
            return f"{in_bytes(value)} stored and sent four times"
        return f"{value:.2f} times the original's {self._objective}"


def _quotient(after: Ratios, before: Ratios, expected: Ratios) -> Ratios:
    """(after / before) / expected; 1 where either was not measured."""

    def one(mine: float, theirs: float, wanted: float) -> float:
        return mine / theirs / wanted if mine > 0 and theirs > 0 and wanted > 0 else 1.0

    return Ratios(
        one(after.bytes, before.bytes, expected.bytes),
        one(after.download, before.download, expected.download),
        one(after.latency, before.latency, expected.latency),
    )


def _is_part(part: Candidate, whole: Candidate) -> bool:
    """Whether ``part`` is one lossy step of ``whole`` with all that ``whole`` trains, for training may repair the others."""
    lossy = [item for item in part.made_of if item.stage != "graph"]
    smaller = len(lossy) == 1 and lossy[0] in whole.made_of and len(part.made_of) < len(whole.made_of)
    return smaller and part.trained == whole.trained


def _silent(candidate: Candidate) -> bool:
    """Whether something is trained of which its strategy does not say what to expect."""
    return any(item.trains and ratios([item]) == Ratios() for item in candidate.made_of)


def _name(candidate: Candidate) -> str:
    return candidate.steps[-1].strategy if candidate.steps else "the original"
