"""Whether a canary is worse than its control group: three answers, looked at as often as one likes. Pure.

Tests are sequential: their error holds however often they are asked, unlike that of two means that are compared again and again.
Shares use the mixture martingale of Robbins 1970 (beta-binomial), means the asymptotic confidence sequence of Waudby-Smith et al.
2021 (arXiv:2103.06476). What a gate compares is its metric's business, a plugin; who is in which group and what they did is
``delivery.comparison``'s.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.domain.spec import Gate

ALPHA = 0.05
"""chance that a gate is ever wrong in one direction, split over the two groups"""
FEWEST_REPORTS = 10
"""of each group, before means say anything"""
_BEST_AT = 50
"""reports for which the bounds of means are tightest"""


class Verdict(enum.StrEnum):
    """No data, too few and NaN are Inconclusive."""

    PASS = "Pass"  # noqa: S105 (no password)
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True)
class Finding:
    """What one gate found. ``canary``, ``control``: the figures, in base units; None where there is none."""

    metric: str
    verdict: str
    message: str
    canary: float | None = None
    control: float | None = None


@dataclass(frozen=True)
class Series:
    """Figures of report after report: how many, their mean, and the sum of their squared distances from it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def with_value(self, value: float) -> Series:
        """One more (Welford 1962). What is not finite is left out."""
        if not math.isfinite(value):
            return self
        count = self.count + 1
        mean = self.mean + (value - self.mean) / count
        return Series(count, mean, self.squares + (value - self.mean) * (value - mean))

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """Between which the true mean has stayed all the time, but for a chance of ``alpha``; None with too few."""
        if self.count < FEWEST_REPORTS:
            return None
        known = -2 * math.log(alpha)
        rho = (known + math.log(known + 1)) / _BEST_AT
        inside = self.count * rho + 1
        spread = math.sqrt(self.squares / (self.count - 1))
        half = spread * math.sqrt(2 * inside / (self.count**2 * rho) * math.log(math.sqrt(inside) / alpha))
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Window:
    """What a group did since the step began. ``counts``: inferences in the buckets of LATENCY_BOUNDS and beyond the last;
    ``seconds``, ``joules``: of one inference, report by report; ``sources``: of the energy."""

    inferences: int = 0
    errors: int = 0
    counts: tuple[int, ...] = ()
    seconds: Series = Series()
    joules: Series = Series()
    sources: frozenset[str] = frozenset()


Judge = Callable[[Gate, Window, Window], Finding]
"""(gate, canary, control) -> what it finds"""


def overall(findings: Iterable[Finding]) -> Verdict:
    """The worst of them; Pass for none."""
    verdicts = {item.verdict for item in findings}
    return next((item for item in (Verdict.FAIL, Verdict.INCONCLUSIVE) if item in verdicts), Verdict.PASS)


def judged(gate: Gate, pairs: Mapping[str, tuple[Window, Window]], judge: Judge) -> Finding:
    """One gate over every profile, (canary, control) of each; the worst profile speaks."""
    if not pairs:
        return Finding(gate.metric, Verdict.INCONCLUSIVE, "no canary has a control group of its profile")
    found = [_in_words(profile, judge(gate, *pair)) for profile, pair in sorted(pairs.items())]
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    return min(found, key=lambda item: order.index(Verdict(item.verdict)))


def share_bounds(hits: int, of: int, alpha: float) -> tuple[float, float]:
    """Between which a share has stayed all the time, but for a chance of ``alpha``; 0 and 1 with nothing seen."""
    if of <= 0:
        return 0.0, 1.0
    hits = min(hits, of)
    mixture = math.lgamma(hits + 0.5) + math.lgamma(of - hits + 0.5) - math.lgamma(of + 1) - math.log(math.pi)
    limit = -math.log(alpha)

    def doubted(share: float) -> bool:
        own = (hits * math.log(share) if hits else 0.0) + ((of - hits) * math.log1p(-share) if of > hits else 0.0)
        return mixture - own > limit

    middle = (hits + 0.5) / (of + 1)
    return (_edge(middle, 0.0, doubted) if hits else 0.0), (_edge(middle, 1.0, doubted) if of > hits else 1.0)


def _edge(inside: float, outside: float, doubted: Callable[[float], bool]) -> float:
    """Where doubt begins on the way from one to the other, to a millionth."""
    while abs(inside - outside) > 1e-6:
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if doubted(middle) else (middle, outside)
    return outside


def means(canary: Series, control: Series, increase: float) -> Verdict:
    """Whether the mean of one is over that of the other and the increase, for sure, certainly not, or nobody knows."""
    mine, theirs = canary.bounds(ALPHA / 2), control.bounds(ALPHA / 2)
    if mine is None or theirs is None:
        return Verdict.INCONCLUSIVE
    more = 1 + increase
    if mine[0] > more * theirs[1]:
        return Verdict.FAIL
    return Verdict.PASS if mine[1] <= more * theirs[0] else Verdict.INCONCLUSIVE


def beyond(counts: Sequence[int], limit: float) -> float:
    """How many inferences take longer than ``limit`` seconds, interpolated within its bucket; ``counts`` as in Window."""
    edges = (0.0, *LATENCY_BOUNDS, math.inf)
    total = 0.0
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        part = 0.0 if high <= limit else 1.0 if low >= limit or high == math.inf else (high - limit) / (high - low)
        total += part * count
    return total


def _in_words(profile: str, finding: Finding) -> Finding:
    return Finding(finding.metric, finding.verdict, f"{profile}: {finding.message}", finding.canary, finding.control)
