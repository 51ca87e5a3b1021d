"""Gate metrics: what may not get worse from one version to the next, of canaries beside their control group.

The tests behind them, whose error holds however often they are asked, come with ``edge_compress.plugin``.
"""

from __future__ import annotations

from typing import ClassVar

from edge_compress.plugin import (
    ALPHA,
    FEWEST_REPORTS,
    LATENCY_BOUNDS,
    Finding,
    Gate,
    GateMetric,
    GateVerdict,
    Window,
    beyond,
    means,
    quantile,
    share_bounds,
)

_ALIKE = 4
"""inferences that follow each other take about as long: so many count as one"""
_SMALL = 0.01
"""difference of two error ratios that does not matter"""
_TAIL = 0.05
"""share of the inferences beyond the 95th percentile"""


class LatencyP95(GateMetric):
    """The 95th percentile of an inference's time.

    The share of inferences that take longer than the control's and the increase must not be over 5%. Histograms count in buckets
    half as wide again as the one before, so that the mean must keep the increase, too.
    """

    name: ClassVar[str] = "latency_p95"

    def judge(self, gate: Gate, canary: Window, control: Window) -> Finding:
        """See the class."""
        mine, theirs = (quantile(LATENCY_BOUNDS, item.counts, 1 - _TAIL) for item in (canary, control))
        if mine is None or theirs is None:
            return Finding(gate.metric, GateVerdict.INCONCLUSIVE, _few(canary, control))
        limit = theirs * (1 + gate.max_increase)
        low, high = _share_beyond(canary, limit)
        # The limit comes from the control, of which not much more may be known than of the canary.
        _, theirs_beyond = _share_beyond(control, limit)
        fails = low > max(_TAIL, theirs_beyond) and control.seconds.count >= FEWEST_REPORTS
        tail = GateVerdict.FAIL if fails else GateVerdict.PASS if high <= _TAIL else GateVerdict.INCONCLUSIVE
        verdict = _worse(tail, means(canary.seconds, control.seconds, gate.max_increase))
        said = f"p95 {_ms(mine)} against {_ms(theirs)}, mean {_ms(canary.seconds.mean)} against {_ms(control.seconds.mean)}"
        return Finding(gate.metric, verdict, f"{said}; {_counts(canary, control)}", mine, theirs)


class EnergyPerInference(GateMetric):
    """Joules of an inference, in the mean, report by report. ``require: measured`` refuses estimates."""

    name: ClassVar[str] = "energy_per_inference"

    def judge(self, gate: Gate, canary: Window, control: Window) -> Finding:
        """See the class."""
        estimated = "estimate" in canary.sources | control.sources
        if gate.require == "measured" and estimated:
            said = "measured energy is required, and there are only estimates"
            return Finding(gate.metric, GateVerdict.INCONCLUSIVE, said)
        if not canary.joules.count or not control.joules.count:
            return Finding(gate.metric, GateVerdict.INCONCLUSIVE, "no energy was reported by both groups")
        mine, theirs = canary.joules.mean, control.joules.mean
        said = f"{1000 * mine:.3g} mJ against {1000 * theirs:.3g} mJ an inference{' (estimates)' if estimated else ''}"
        verdict = means(canary.joules, control.joules, gate.max_increase)
        return Finding(gate.metric, verdict, f"{said}; {canary.joules.count} and {control.joules.count} reports", mine, theirs)


class ErrorRatio(GateMetric):
    """The share of inferences that failed; a difference of one in a hundred does not matter."""

    name: ClassVar[str] = "error_ratio"

    def judge(self, gate: Gate, canary: Window, control: Window) -> Finding:
        """See the class."""
        if not canary.inferences or not control.inferences:
            return Finding(gate.metric, GateVerdict.INCONCLUSIVE, _few(canary, control))
        mine, theirs = canary.errors / canary.inferences, control.errors / control.inferences
        low, high = share_bounds(canary.errors, canary.inferences, ALPHA / 2)
        least, most = share_bounds(control.errors, control.inferences, ALPHA / 2)
        more = 1 + gate.max_increase
        verdict = GateVerdict.FAIL if low > more * most else GateVerdict.INCONCLUSIVE
        verdict = GateVerdict.PASS if high <= more * least + _SMALL else verdict
        return Finding(gate.metric, verdict, f"{mine:.2%} failed against {theirs:.2%}; {_counts(canary, control)}", mine, theirs)


def _share_beyond(window: Window, limit: float) -> tuple[float, float]:
    """Between which the share of inferences over ``limit`` seconds lies."""
    return share_bounds(round(beyond(window.counts, limit)) // _ALIKE, sum(window.counts) // _ALIKE, ALPHA / 2)


def _worse(one: GateVerdict, other: GateVerdict) -> GateVerdict:
    return next(item for item in (GateVerdict.FAIL, GateVerdict.INCONCLUSIVE, GateVerdict.PASS) if item in (one, other))


def _few(canary: Window, control: Window) -> str:
    return f"too little is known: {_counts(canary, control)}"


def _counts(canary: Window, control: Window) -> str:
    return f"{canary.inferences:,} and {control.inferences:,} inferences"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
