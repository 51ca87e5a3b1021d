"""From model facts and a profile to the candidates worth running, in order, and every reason why others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_compress.domain.artifact import AppliedStep

_MOST_CHEAP = 12
_MOST_TRAINED = 8
_PRECISIONS_PER_STRUCTURE = 2
_NEAREST_KEPT = 2


@dataclass(frozen=True)
class Proposal:
    """One strategy with bound parameters and what it is expected to do, as ratios (1.0: unchanged)."""

    strategy: str
    version: str
    stage: str
    params: Mapping[str, Any] = field(default_factory=dict, metadata={"free": True})
    refused: str = ""
    """why it is not to be tried; empty: it is"""
    bytes_ratio: float = 1.0
    download_ratio: float = 1.0
    latency_ratio: float = 1.0
    memory_ratio: float = 1.0
    lossless: bool = False
    golden_tolerance: float = 1e-3
    index: int = 0
    """position in a recipe"""
    trains: bool = False
    """takes minutes rather than seconds; tried only where the cheap ones miss the goals, or a budget asks for more"""

    @property
    def step(self) -> AppliedStep:
        """The step as it is applied and reported."""
        return AppliedStep(self.strategy, self.version, self.params)


@dataclass(frozen=True)
class Prediction:
    """What a candidate should cost before anything is run; ``None`` where nothing is known. Base units."""

    bytes: int | None = None
    download_bytes: int | None = None
    latency_seconds: float | None = None
    memory_bytes: int | None = None
    energy_joules: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A pipeline to try. No steps: the original as it is."""

    steps: tuple[AppliedStep, ...]
    predicted: Prediction = Prediction()
    lossless: bool = True
    golden_tolerance: float = 1e-3
    trains: bool = False
    cuts: bool = False
    """changes the structure, which not every model allows"""


@dataclass(frozen=True)
class Refusal:
    """A pipeline that is not tried, and why."""

    steps: tuple[AppliedStep, ...]
    why: str
    predicted: Prediction = Prediction()


@dataclass(frozen=True)
class Plan:
    """What would be tried for one (model, profile) pair, most promising first."""

    model: str
    profile: str
    objective: str
    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...] = ()


def pipelines(proposals: Sequence[Proposal]) -> list[tuple[Proposal, ...]]:
    """Every pipeline that the proposals allow: the original; the graph stage; then at most one proposal of each later stage.

    Every smaller structure is also tried with the smallest precisions, since the structure is computed once for all of them;
    other pairs of lossy stages are limited to the first proposals of each strategy, which are the most promising by contract.
    """
    usable = [item for item in proposals if not item.refused]
    by_stage = {
        stage: [item for item in usable if item.stage == stage] for stage in ("graph", "structure", "sparsity", "precision")
    }
    prefix = tuple(_first_of_each(by_stage["graph"]))
    found: list[tuple[Proposal, ...]] = [()]
    if prefix:
        found.append(prefix)
    for stage in ("structure", "sparsity", "precision"):
        found += [(*prefix, item) for item in by_stage[stage]]
    precisions = _first_of_each(by_stage["precision"])
    smallest = sorted(precisions, key=lambda item: (item.latency_ratio, item.bytes_ratio))[:_PRECISIONS_PER_STRUCTURE]
    found += [(*prefix, cut, exact) for cut in by_stage["structure"] for exact in smallest]
    found += [(*prefix, thin, exact) for thin in _first_of_each(by_stage["sparsity"]) for exact in precisions]
    return found


def draw_up(
    model: str,
    profile: str,
    objective: str,
    wanted: Iterable[tuple[Proposal, ...]],
    refused: Iterable[Proposal],
    predict: Callable[[tuple[Proposal, ...]], Prediction],
    hopeless: Callable[[tuple[Proposal, ...], Prediction], tuple[float, str] | None],
) -> Plan:
    """Order the wanted pipelines and refuse the hopeless ones, keeping the nearest of those so that a goal that cannot be met
    still leaves an artifact.

    ``hopeless`` gives (how far, why) for a pipeline that cannot meet the profile, else None.
    """
    kept: list[tuple[float, Candidate]] = []
    lost: list[tuple[float, Candidate, str]] = []
    for steps in wanted:
        predicted = predict(steps)
        candidate = _candidate(steps, predicted)
        verdict = hopeless(steps, predicted)
        if verdict is None:
            kept.append((_weight(predicted, objective), candidate))
        else:
            lost.append((verdict[0], candidate, verdict[1]))
    kept.sort(key=lambda item: item[0])
    lost.sort(key=lambda item: item[0])
    cheap = [candidate for _, candidate in kept if not candidate.trains]
    trained = [candidate for _, candidate in kept if candidate.trains]
    candidates = [*_most(cheap, _MOST_CHEAP), *_most(trained, _MOST_TRAINED)]
    if not candidates:
        candidates = _nearest([candidate for far, candidate, _ in lost if far < float("inf")])
    refusals = [Refusal((item.step,), item.refused) for item in refused]
    refusals += [Refusal(one.steps, why, one.predicted) for _, one, why in lost if not _among(one.steps, candidates)]
    too_many = f"only the {_MOST_CHEAP} most promising are tried, and {_MOST_TRAINED} of those that train"
    refusals += [Refusal(one.steps, too_many, one.predicted) for _, one in kept if not _among(one.steps, candidates)]
    return Plan(model, profile, objective, tuple(candidates), tuple(refusals))


def _most(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """At most ``count`` in their order; pipelines of several lossy steps give way before single steps do."""
    lossy = [len(one.steps) - any(step.strategy.startswith("graph.") for step in one.steps) for one in candidates]
    by_worth = sorted(range(len(candidates)), key=lambda index: (lossy[index] > 1, index))
    return [candidates[index] for index in sorted(by_worth[:count])]


def _nearest(hopeless: Sequence[Candidate]) -> list[Candidate]:
    """Of pipelines that are predicted to miss the goals, the nearest: none that trains, which is no time well spent on a lost
    cause, and one that cuts no structure, since cutting may turn out to be impossible."""
    near = [one for one in hopeless if not one.trains] or list(hopeless)
    kept = near[:_NEAREST_KEPT]
    return kept + [one for one in near if not one.cuts and all(other.cuts for other in kept)][:1]


def _first_of_each(proposals: Sequence[Proposal]) -> list[Proposal]:
    first: dict[str, Proposal] = {}
    for item in proposals:
        first.setdefault(item.strategy, item)
    return list(first.values())


def _candidate(steps: tuple[Proposal, ...], predicted: Prediction) -> Candidate:
    tolerance = max((item.golden_tolerance for item in steps), default=1e-3)
    lossless, trains = all(item.lossless for item in steps), any(item.trains for item in steps)
    cuts = any(item.stage == "structure" for item in steps)
    return Candidate(tuple(item.step for item in steps), predicted, lossless, tolerance, trains, cuts)


def _weight(predicted: Prediction, objective: str) -> float:
    figures = {
        "size": predicted.bytes,
        "latency": predicted.latency_seconds,
        "energy": predicted.energy_joules if predicted.energy_joules is not None else predicted.latency_seconds,
    }
    chosen = figures[objective]
    return float(chosen if chosen is not None else predicted.bytes or 0)


def _among(steps: tuple[AppliedStep, ...], candidates: Sequence[Candidate]) -> bool:
    return any(item.steps == steps for item in candidates)
