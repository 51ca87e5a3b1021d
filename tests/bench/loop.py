"""Whether the loop closes: ``make bench-loop``, or ``python -m tests.bench.loop``.

Random fleets of one class each, whose true speed, energy per operation and memory overhead nobody declared, run three models
each. Devices differ, a tenth of them is throttled, and each inference has its jitter. What they report goes through the product's
own totals, learning and corrections; the planner then chooses again among what was measured here, as does an oracle that knows
the truth. In a harder world integers and halves are off by amounts of their own, which nobody can know before they ran. Reports
are made here; sending them is tested elsewhere.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge_compress.delivery.learning import Heard, Subject, heard
from edge_compress.domain import calibration
from edge_compress.domain.artifact import AppliedStep, CandidateResult, Energy, Latency, Measurement, Quality
from edge_compress.domain.calibration import Corrections, arithmetic, as_reported, costs_of, learned, median_errors
from edge_compress.domain.choice import choose
from edge_compress.domain.cost import on_device
from edge_compress.domain.model import LayerFacts, ModelFacts
from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.domain.spec import Compute, DeviceProfileSpec
from edge_compress.store.interface import UsageTotals

Generator = np.random.Generator
Steps = tuple[str, ...]

NEEDS = {"quantize.static": ("int8",), "quantize.float16": ("fp16",)}
REPORTS, DEVICES, MODELS, INFERENCES = 200, 20, 3, 25
MAX_DROP = 0.01
_ROUNDS = 4
"""in which the planner chooses anew, and devices run what it chose"""
_THROTTLED = 0.1
WORLDS = (
    ("hidden speed, energy per operation and memory overhead", 0.0),
    ("the same, with integers and halves off by 15% of their own", 0.15),
)
_KINDS: tuple[tuple[Steps, float, float, float], ...] = (
    ((), 1.0, 1.0, 0.0),
    (("graph.optimize",), 0.9, 1.0, 0.0),
    (("graph.optimize", "quantize.float16"), 0.92, 0.5, 0.0005),
    (("graph.optimize", "quantize.static"), 0.45, 0.27, 0.004),
    (("graph.optimize", "prune.structured"), 0.6, 0.6, 0.006),
    (("graph.optimize", "prune.structured", "quantize.static"), 0.32, 0.17, 0.008),
)
"""(steps, latency, bytes, drop) as they are here, about"""


@dataclass(frozen=True)
class Truth:
    """What a class really does, as multiples of what is foretold; memory: factor and bytes."""

    slower: dict[str, float]
    draws: dict[str, float]
    memory_times: float
    memory_added: float


@dataclass(frozen=True)
class Candidate:
    """A file as it was measured here, as it is foretold for the class, and as it really is there."""

    steps: Steps
    foretold: Measurement
    true: Measurement

    @property
    def kind(self) -> str:
        """Its arithmetic."""
        return arithmetic([AppliedStep(name) for name in self.steps], NEEDS)


@dataclass
class Fleet:
    """A class with its models, and what was learned of it so far."""

    profile: DeviceProfileSpec
    objective: str
    models: list[list[Candidate]]
    speeds: list[float]
    seen: dict[tuple[str, str], Heard] = field(default_factory=dict)
    totals: dict[tuple[str, str], UsageTotals] = field(default_factory=dict)
    corrections: Corrections = Corrections()
    first: list[calibration.Observed] = field(default_factory=list)

    def chosen(self, corrections: Corrections) -> list[Steps]:
        """What the planner chooses for each model."""
        threads = self.profile.threads
        return [
            self._choose((one.steps, as_reported(one.foretold, corrections, one.kind, threads)) for one in model)
            for model in self.models
        ]

    def oracle(self) -> list[Steps]:
        """What is best in truth."""
        return [self._choose((one.steps, one.true) for one in model) for model in self.models]

    def _choose(self, known: Iterable[tuple[Steps, Measurement]]) -> Steps:
        results = [CandidateResult(tuple(AppliedStep(name) for name in steps), "measured", measurement=m) for steps, m in known]
        best = choose(results, self.profile, max_drop=MAX_DROP, objective=self.objective).chosen
        return tuple(step.strategy for step in best.steps) if best else ()

    def report(self, rng: Generator, at: float) -> None:
        """One device runs some inferences of what its model's planner chose, and reports."""
        number = int(rng.integers(DEVICES))
        model = number % MODELS
        steps = self.chosen(self.corrections)[model]
        candidate = next(one for one in self.models[model] if one.steps == steps)
        name, version = f"d{number}", f"{model}/{'+'.join(steps)}"
        key = name, version
        self.totals[key] = _grown(self.totals.get(key), candidate.true, self.speeds[number], rng)
        subject = Subject(name, version, candidate.kind, costs_of(candidate.foretold, self.profile.threads))
        known = heard(self.seen.get(key), self.totals[key], subject, self.corrections, at)
        if known is not None:
            self.first += [] if key in self.seen or at > REPORTS / _ROUNDS * 60 else [known.observed]
            self.seen[key] = known

    def learn(self) -> None:
        """Take what was reported so far into the corrections."""
        self.corrections = learned(one.observed for one in self.seen.values())


@dataclass(frozen=True)
class Result:
    """Of one fleet. Errors by quantity."""

    first: dict[str, float]
    last: dict[str, float]
    right_before: bool
    """all choices are the oracle's"""
    right_after: bool


def played(seed: int, apart: float = 0.0, reports: int = REPORTS) -> Result:
    """One fleet from its first choice to its last. ``apart``: spread of what sets integers and halves apart from floats."""
    rng = np.random.default_rng(seed)
    fleet = drawn(rng, apart)
    right = fleet.oracle()
    before = fleet.chosen(Corrections()) == right
    for number in range(reports):
        fleet.report(rng, 60.0 * (number + 1))
        if (number + 1) % max(1, reports // _ROUNDS) == 0:
            fleet.learn()
    last = median_errors(one.observed for one in _newest(fleet))
    return Result(median_errors(fleet.first), last, before, fleet.chosen(fleet.corrections) == right)


def _newest(fleet: Fleet) -> list[Heard]:
    """What was heard in the last round."""
    since = 60.0 * REPORTS * (1 - 1 / _ROUNDS)
    return [one for one in fleet.seen.values() if one.observed.at > since] or list(fleet.seen.values())


def drawn(rng: Generator, apart: float = 0.0) -> Fleet:
    """A fleet by chance."""
    declared = Compute(fp32=_around(rng, 8e9, 0.5), memory_bandwidth=None, watts_per_core=_around(rng, 1.5, 0.3))
    profile = DeviceProfileSpec(compute=declared, threads=int(rng.choice([1, 2, 4])))
    truth = _truth(rng, apart)
    models = [_model(rng, profile, truth) for _ in range(MODELS)]
    objective = str(rng.choice(["latency", "energy", "size"]))
    speeds = [float(rng.lognormal(0, 0.04) * (rng.uniform(2, 4) if rng.random() < _THROTTLED else 1)) for _ in range(DEVICES)]
    return Fleet(_limited(rng, profile, models), objective, models, speeds)


def _truth(rng: Generator, apart: float) -> Truth:
    speed, watts = float(rng.lognormal(0, 0.6)), float(rng.lognormal(0, 0.5))
    times = {"fp32": 1.0, "int8": _around(rng, 1.0, apart), "fp16": _around(rng, 1.0, apart)}
    draws = {kind: watts * (1.0 if kind == "fp32" else _around(rng, 1.0, apart / 2)) for kind in times}
    return Truth(
        {kind: speed * far for kind, far in times.items()}, draws, float(rng.uniform(1, 1.3)), float(rng.uniform(0, 12) * 2**20)
    )


def _model(rng: Generator, profile: DeviceProfileSpec, truth: Truth) -> list[Candidate]:
    macs, weights = int(rng.lognormal(np.log(4e7), 0.8)), int(rng.lognormal(np.log(3e6), 0.6))
    layer = LayerFacts("all", "Conv", macs, 4 * weights, weights, 4 * max(1, macs // 300))
    facts = ModelFacts("f" * 64, 4 * weights, 17, (), (), layers=(layer,), weight_bytes=4 * weights)
    return [_candidate(rng, kind, facts, profile, truth) for kind in _KINDS]


def _candidate(
    rng: Generator, kind: tuple[Steps, float, float, float], facts: ModelFacts, profile: DeviceProfileSpec, truth: Truth
) -> Candidate:
    steps, ratio, size, drop = kind
    ratio = _around(rng, ratio, 0.12) if steps else 1.0
    stored = round(facts.bytes * (_around(rng, size, 0.1) if steps else 1.0))
    lost = _around(rng, drop, 0.5) if drop else 0.0
    here = Measurement(
        "0" * 64,
        stored,
        round(0.9 * stored),
        Quality("top1", 0.9, 0.9 - lost, lost, 1000, (0.88, 0.92)),
        Latency(0.005 * ratio, 0.006 * ratio, ratio_to_float=ratio, cpu_seconds=0.005 * ratio, cpu_ratio=ratio),
        round(1.4 * stored + 2**20),
    )
    foretold = on_device(here, facts, profile)
    return Candidate(steps, foretold, _truly(foretold, arithmetic([AppliedStep(name) for name in steps], NEEDS), truth))


def _truly(foretold: Measurement, kind: str, truth: Truth) -> Measurement:
    latency, joules = foretold.latency, foretold.energy.joules
    assert latency is not None
    assert joules is not None
    assert foretold.peak_memory_bytes is not None
    slower, apart = truth.slower[kind], truth.slower[kind] / truth.slower["fp32"]
    drawn_apart = apart * truth.draws[kind] / truth.draws["fp32"]
    assert latency.ratio_to_float is not None
    own = replace(
        latency,
        p50=latency.p50 * slower,
        p95=latency.p95 * slower,
        ratio_to_float=latency.ratio_to_float * apart,
        cpu_ratio=latency.ratio_to_float * drawn_apart,
    )
    memory = round(truth.memory_times * foretold.peak_memory_bytes + truth.memory_added)
    return replace(foretold, latency=own, energy=Energy(joules * slower * truth.draws[kind], "rapl"), peak_memory_bytes=memory)


def _limited(rng: Generator, profile: DeviceProfileSpec, models: Sequence[Sequence[Candidate]]) -> DeviceProfileSpec:
    """The profile with limits that some of the files keep and others do not."""
    true = [one.true for model in models for one in model]
    slowest = float(np.quantile([one.latency.p95 for one in true if one.latency], rng.uniform(0.2, 0.9)))
    seconds = slowest * float(rng.uniform(0.9, 1.3))
    memory = float(np.quantile([one.peak_memory_bytes or 0 for one in true], rng.uniform(0.2, 0.9)))
    joules = [one.energy.joules for one in true if one.energy.joules]
    rate = float(rng.uniform(0.2, 0.8)) / slowest  # without one, every file would draw the same mean power
    watts = rate * float(np.quantile(joules, rng.uniform(0.2, 0.9)))
    return replace(
        profile,
        rate=rate,
        latency_p95=seconds if rng.random() < 0.7 else None,
        memory=round(memory * rng.uniform(0.9, 1.3)) if rng.random() < 0.5 else None,
        power_budget=watts * float(rng.uniform(0.9, 1.3)) if rng.random() < 0.3 else None,
    )


def _grown(before: UsageTotals | None, true: Measurement, slower: float, rng: Generator) -> UsageTotals:
    """A device's totals with some inferences more: lognormal around the truth, some that take many times as long."""
    old = before or UsageTotals({"ok": 0}, LATENCY_BOUNDS, (0,) * (len(LATENCY_BOUNDS) + 1), 0.0, {"rapl/package": 0.0})
    assert true.latency is not None
    assert true.energy.joules is not None
    assert true.peak_memory_bytes is not None
    spread = float(np.log(true.latency.p95 / true.latency.p50)) / 1.645
    took = true.latency.p50 * slower * rng.lognormal(0, spread, INFERENCES) * np.where(rng.random(INFERENCES) < 0.02, 6, 1)
    counts = np.bincount(np.searchsorted(LATENCY_BOUNDS, took), minlength=len(old.bucket_counts))
    joules = true.energy.joules * slower * INFERENCES * float(rng.lognormal(0, 0.05))
    peak = old.peak_memory_bytes or round(true.peak_memory_bytes * float(rng.lognormal(0, 0.02)))
    return UsageTotals(
        {"ok": old.inferences["ok"] + INFERENCES},
        LATENCY_BOUNDS,
        tuple(int(count) for count in np.add(old.bucket_counts, counts)),
        old.duration_sum + float(took.sum()),
        {"rapl/package": old.energy["rapl/package"] + joules},
        (),
        peak,
    )


def _around(rng: Generator, value: float, spread: float) -> float:
    return float(value * rng.lognormal(0, spread))


def summary(results: Sequence[Result], reports: int) -> list[str]:
    """The table."""
    error = "median |predicted - reported| / reported"
    told = [f"{len(results)} classes, {reports} reports each", f"{error:50}{'first':>8}{'last':>8}"]
    for quantity in calibration.QUANTITIES:
        first, last = (errors_of(results, quantity, when) for when in ("first", "last"))
        told.append(f"  {quantity:48}{first:8.1%}{last:8.1%}")
    before, after = (sum(getattr(one, name) for one in results) / len(results) for name in ("right_before", "right_after"))
    same = f"fleets in which all {MODELS} choices are the oracle's"
    told.append(f"{same:50}{before:8.1%}{after:8.1%}")
    return told


def errors_of(results: Sequence[Result], quantity: str, when: str) -> float:
    """Median over the classes of their median error."""
    return statistics.median(getattr(one, when)[quantity] for one in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for title, apart in WORLDS:
        results = [played(arguments.seed * 10_000 + number, apart) for number in range(arguments.fleets)]
        print("\n".join([title, *summary(results, REPORTS), ""]))


if __name__ == "__main__":
    main()
