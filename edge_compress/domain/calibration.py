"""What devices report beside what was foretold, and the corrections that follow for their profile. Pure.

A correction is a factor on the uncorrected prediction, which is kept beside what was reported, so that corrections never
compound. It is found by medians of logarithms over devices and artifacts, without those far from the others, once enough was
reported; what is newer counts more. Latency and energy have a factor for each arithmetic, for what computes in integers here may
have no instructions for it there; one that no device has run yet takes that of float, or of all. Memory has an amount and a
factor, for runtimes add what does not grow with the model. How reports become ``Observed`` is ``delivery.learning``'s business.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_compress.domain.artifact import AppliedStep, Energy, Latency, Measurement
from edge_compress.domain.plan import Prediction

FLOAT = "fp32"
FEWEST_REPORTS = 10.0
"""of a class, before anything is corrected by them"""
MOST_COUNTED = 10.0
"""reports that one device's level of one artifact is made of: what is older has faded"""
HALF_LIFE = 86_400.0
"""seconds by which a report must be older than the newest to count half as much"""
_SAME = 0.03
"""logarithms closer than this to the median are never outliers"""
_FAR = 3.0
"""standard deviations, as the median of distances tells them"""
_APART = 1.2
"""times that one artifact must need another's memory for the two to tell what grows with the model"""
_ALIKE = 0.01
"""logarithms that differ by less are not worth to be told"""
_ESTIMATE = "estimate"

Points = Sequence[tuple[float, float]]
"""(value, weight)"""


@dataclass(frozen=True)
class Costs:
    """What an inference takes: seconds, bytes, joules. None where nothing is known."""

    latency: float | None = None
    latency_p95: float | None = None
    memory: float | None = None
    energy: float | None = None


QUANTITIES = ("latency", "latency_p95", "memory", "energy")


@dataclass(frozen=True)
class Observed:
    """One device with one artifact. ``reports``: how many the level is made of, faded ones for less; ``errors``: how far off the
    prediction was that stood when the last report came, as a share of what was reported."""

    device: str
    version: str
    arithmetic: str
    predicted: Costs
    """uncorrected"""
    reported: Costs
    reports: float = 1.0
    at: float = 0.0
    energy_source: str = ""
    errors: Costs = Costs()


@dataclass(frozen=True)
class Factor:
    """Reported over predicted. ``arithmetic``: empty for any that is not listed."""

    quantity: str
    arithmetic: str
    ratio: float
    reports: int = 0
    devices: int = 0


@dataclass(frozen=True)
class Corrections:
    """Of one profile. Memory is predicted as ``memory_times`` the prediction and ``memory_added`` bytes."""

    factors: tuple[Factor, ...] = ()
    memory_added: float = 0.0
    memory_times: float = 1.0

    def factor(self, quantity: str, arithmetic: str) -> float | None:
        """The factor of an arithmetic, else the one of any; None where nothing was learned."""
        known = {one.arithmetic: one.ratio for one in self.factors if one.quantity == quantity}
        return known.get(arithmetic, known.get(""))

    def near(self, other: Corrections, by: float = _ALIKE) -> bool:
        """Whether two say the same, but for what the next report may change. ``by``: a logarithm."""
        mine, theirs = ({(f.quantity, f.arithmetic): f.ratio for f in one.factors} for one in (self, other))
        alike = mine.keys() == theirs.keys() and all(abs(math.log(mine[key] / theirs[key])) <= by for key in mine)
        memory = [(1.0 + one.memory_added, one.memory_times) for one in (self, other)]
        return alike and all(abs(math.log(one / two)) <= by for one, two in zip(*memory, strict=True))

    def costs(self, predicted: Costs, arithmetic: str) -> Costs:
        """A prediction as the devices would report it."""
        return Costs(
            _times(predicted.latency, self.factor("latency", arithmetic)),
            _times(predicted.latency_p95, self.factor("latency_p95", arithmetic)),
            None if predicted.memory is None else self.memory_times * predicted.memory + self.memory_added,
            _times(predicted.energy, self.factor("energy", arithmetic)),
        )


def arithmetic(steps: Iterable[AppliedStep], needs: Mapping[str, Sequence[str]]) -> str:
    """What a pipeline computes in: the precision that the last of its strategies needs. ``needs``: of each strategy."""
    found = [needs.get(step.strategy, ()) for step in steps]
    return next((precisions[0] for precisions in reversed(found) if precisions), FLOAT)


def costs_of(expected: Measurement, threads: int) -> Costs:
    """What a measurement says an inference takes. Where no watts are known, each thread counts as drawing one, for the factor of
    energy to say how many they are."""
    latency, joules = expected.latency, expected.energy.joules
    busy = None if latency is None else latency.p50 * threads
    return Costs(
        None if latency is None else latency.p50,
        None if latency is None else latency.p95,
        expected.peak_memory_bytes,
        busy if joules is None else joules,
    )


def as_reported(measured: Measurement, corrections: Corrections, kind: str, threads: int) -> Measurement:
    """A measurement as the devices would report it; ``kind``: the arithmetic. Ratios to float move as far as float does not."""
    if corrections == Corrections():
        return measured
    told = corrections.costs(costs_of(measured, threads), kind)
    known = measured.energy.joules is not None or corrections.factor("energy", kind) is not None
    energy = Energy(told.energy, measured.energy.source or _ESTIMATE) if known else measured.energy
    memory = None if told.memory is None else round(told.memory)
    return replace(measured, latency=_latency(measured.latency, told, corrections, kind), peak_memory_bytes=memory, energy=energy)


def foretold(predicted: Prediction, corrections: Corrections, kind: str, threads: int) -> Prediction:
    """A prediction as the devices would report it."""
    seconds, joules = predicted.latency_seconds, predicted.energy_joules
    busy = None if seconds is None else seconds * threads
    told = corrections.costs(Costs(seconds, None, predicted.memory_bytes, busy if joules is None else joules), kind)
    known = joules is not None or corrections.factor("energy", kind) is not None
    memory = None if told.memory is None else round(told.memory)
    return replace(predicted, latency_seconds=told.latency, memory_bytes=memory, energy_joules=told.energy if known else joules)


def learned(observed: Iterable[Observed]) -> Corrections:
    """The corrections that follow from what the devices of one profile reported."""
    seen = list(observed)
    factors = [found for quantity in ("latency", "latency_p95", "energy") for found in _factors(quantity, seen)]
    added, times = _memory(seen)
    return Corrections(tuple(factors), added, times)


def kept_of(old: Observed, at: float) -> float:
    """Reports for which a device's level counts when another one comes."""
    return min(MOST_COUNTED - 1, old.reports) * _half(at - old.at)


def faded(old: Observed, new: Observed) -> Observed:
    """A device's level after one more report: what was known, faded by its age, and what is new."""
    kept = kept_of(old, new.at)
    share = 1 / (kept + 1)
    mixed = {name: _mixed(getattr(old.reported, name), getattr(new.reported, name), share) for name in QUANTITIES}
    if new.energy_source != old.energy_source and new.reported.energy is not None:
        mixed["energy"] = new.reported.energy  # of another meter: the two do not mix
    source = new.energy_source or old.energy_source
    return replace(new, reported=Costs(**mixed), reports=kept + 1, energy_source=source)


def errors(predicted: Costs, reported: Costs) -> Costs:
    """How far off a prediction was, as a share of what was reported."""
    pairs = {name: (getattr(predicted, name), getattr(reported, name)) for name in QUANTITIES}
    return Costs(
        **{name: abs(guess - real) / real if guess is not None and real else None for name, (guess, real) in pairs.items()}
    )


def median_errors(observed: Iterable[Observed]) -> dict[str, float]:
    """Quantity -> the median of how far predictions were off when devices reported last."""
    seen = list(observed)
    known = {name: [error for one in seen if (error := getattr(one.errors, name)) is not None] for name in QUANTITIES}
    return {name: statistics.median(found) for name, found in known.items() if found}


@dataclass(frozen=True)
class Level:
    """Around what values lie, without those far from the others, and its standard error."""

    value: float
    error: float


def level(points: Points) -> Level | None:
    """The weighted mean of what is left without what lies far from the median; None without anything."""
    if not points:
        return None
    centre = _median(points)
    spread = 1.4826 * _median([(abs(value - centre), weight) for value, weight in points])
    near = [(value, weight) for value, weight in points if abs(value - centre) <= max(_SAME, _FAR * spread)]
    total = sum(weight for _, weight in near)
    mean = sum(value * weight for value, weight in near) / total
    return Level(mean, max(spread, _SAME) * math.sqrt(sum(weight**2 for _, weight in near)) / total)


def _factors(quantity: str, seen: Sequence[Observed]) -> list[Factor]:
    """One for each arithmetic of which enough was reported, and one for any other."""
    pairs = [(one, math.log(ratio)) for one in _metered(quantity, seen) if (ratio := _ratio(quantity, one)) is not None]
    everything = _level(pairs)
    if everything is None:
        return []
    found = []
    for kind in sorted({one.arithmetic for one, _ in pairs}):
        mine = [pair for pair in pairs if pair[0].arithmetic == kind]
        if (known := _level(mine)) is not None:
            found.append(_factor(quantity, kind, _held_back(known, everything), mine))
    plain = next((one for one in found if one.arithmetic == FLOAT), None)
    other = replace(plain, arithmetic="") if plain else _factor(quantity, "", everything.value, pairs)
    return [other, *found]


def _level(pairs: Sequence[tuple[Observed, float]]) -> Level | None:
    """None where too little was reported."""
    if sum(one.reports for one, _ in pairs) < FEWEST_REPORTS:
        return None
    weights = _weights([one for one, _ in pairs])
    return level([(value, weight) for (_, value), weight in zip(pairs, weights, strict=True)])


def _held_back(known: Level, everything: Level) -> float:
    """An arithmetic's level, moved towards that of all as far as the two may differ by chance: else chance would choose between
    arithmetics (the positive part of James and Stein's estimate, for two standard errors)."""
    apart = known.value - everything.value
    return everything.value + apart * max(0.0, 1 - (2 * known.error) ** 2 / apart**2) if apart else known.value


def _factor(quantity: str, kind: str, value: float, pairs: Sequence[tuple[Observed, float]]) -> Factor:
    reports, devices = sum(one.reports for one, _ in pairs), {one.device for one, _ in pairs}
    return Factor(quantity, kind, math.exp(value), round(reports), len(devices))


def _metered(quantity: str, seen: Sequence[Observed]) -> list[Observed]:
    """For energy: what was metered, where enough was; estimates say what was believed anyway."""
    if quantity != "energy":
        return list(seen)
    metered = [one for one in seen if one.energy_source != _ESTIMATE]
    return metered if sum(one.reports for one in metered) >= FEWEST_REPORTS else list(seen)


def _memory(seen: Sequence[Observed]) -> tuple[float, float]:
    """(bytes added, times): of several sizes by the slopes between them (Theil and Sen), of one size as an amount that is added,
    or where less was needed than predicted, as a factor."""
    known = [one for one in seen if one.predicted.memory and one.reported.memory]
    if sum(one.reports for one in known) < FEWEST_REPORTS:
        return 0.0, 1.0
    sizes = _by_artifact(known)
    slopes = [
        ((b[1] - a[1]) / (b[0] - a[0]), min(a[2], b[2])) for a in sizes for b in sizes if b[0] >= _APART * a[0] and b[0] > a[0]
    ]
    times = min(4.0, max(0.25, _median(slopes))) if slopes else 1.0
    added = _median([(reported - times * predicted, weight) for predicted, reported, weight in sizes])
    if added >= 0:
        return added, times
    return 0.0, math.exp(_median([(math.log(reported / predicted), weight) for predicted, reported, weight in sizes]))


def _by_artifact(known: Sequence[Observed]) -> list[tuple[float, float, float]]:
    """(predicted, reported, weight) of each artifact, over its devices."""
    found = []
    for version in sorted({one.version for one in known}):
        mine = [one for one in known if one.version == version]
        weights = _weights(mine)
        reported = level([(math.log(one.reported.memory or 1), weight) for one, weight in zip(mine, weights, strict=True)])
        if reported is not None:
            found.append((float(mine[0].predicted.memory or 0), math.exp(reported.value), sum(weights)))
    return sorted(found)


def _weights(seen: Sequence[Observed]) -> list[float]:
    """Reports, less for those that are older than the newest."""
    newest = max((one.at for one in seen), default=0.0)
    return [one.reports * _half(newest - one.at) for one in seen]


def _half(age: float) -> float:
    return math.exp2(-max(0.0, age) / HALF_LIFE)


def _error(guess: float | None, real: float | None) -> float | None:
    return abs(guess - real) / real if guess is not None and real else None


def _ratio(quantity: str, one: Observed) -> float | None:
    guess, real = getattr(one.predicted, quantity), getattr(one.reported, quantity)
    return real / guess if guess and real else None


def _latency(latency: Latency | None, told: Costs, corrections: Corrections, kind: str) -> Latency | None:
    if latency is None or told.latency is None or told.latency_p95 is None:
        return latency
    apart, drawn = _beside_float(corrections, "latency", kind), corrections.factor("energy", kind)
    # Where energy was reported, the objective energy compares joules; else processor time, where that is known.
    spent = latency.cpu_ratio if drawn is None or latency.cpu_ratio is not None else latency.ratio_to_float
    return replace(
        latency,
        p50=told.latency,
        p95=max(told.latency, told.latency_p95),
        ratio_to_float=_times(latency.ratio_to_float, apart),
        cpu_seconds=_times(latency.cpu_seconds, told.latency / latency.p50 if latency.p50 else None),
        cpu_ratio=_times(spent, _beside_float(corrections, "energy", kind)),
    )


def _beside_float(corrections: Corrections, quantity: str, kind: str) -> float:
    """How much further an arithmetic was off than float was."""
    mine, plain = corrections.factor(quantity, kind), corrections.factor(quantity, FLOAT)
    return mine / plain if mine and plain else 1.0


def _times(value: float | None, factor: float | None) -> float | None:
    return value if value is None or factor is None else value * factor


def _mixed(old: float | None, new: float | None, share: float) -> float | None:
    if not old or not new:
        return old if new is None else new
    return math.exp((1 - share) * math.log(old) + share * math.log(new))


def _median(points: Points) -> float:
    """The weighted median, halfway between two where both are it. Raises ValueError without points."""
    ordered = sorted(points)
    half, below = sum(weight for _, weight in ordered) / 2, 0.0
    for at, (value, weight) in enumerate(ordered):
        below += weight
        if below > half or at == len(ordered) - 1:
            return value
        if below == half:
            return (value + ordered[at + 1][0]) / 2
    raise ValueError("no points")
