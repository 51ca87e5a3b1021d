"""From model facts and a profile to the candidates worth running, in order, and every reason why others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge_compress.domain.artifact import AppliedStep

_MOST_CHEAP = 12
"""pipelines of at most one lossy step that trains nothing"""
_MOST_JOINT = 10
"""pipelines of several lossy steps of which none trains; what the single steps showed decides which of them run"""
_MOST_TRAINED = 8
"""different structures or weights that are trained; what follows a training costs little and is not counted"""
_NEAREST_KEPT = 2
SENT_COUNTS = 4
"""what a byte that is sent counts as beside one that is stored, where size is the objective: it is sent again with every version,
and links are dear"""


Prefix = tuple[AppliedStep, ...]
"""steps up to the last one that trains"""


@dataclass(frozen=True)
class Dial:
    """A numeric parameter that trades quality for cost, and its bounds."""

    name: str
    rises: bool = True
    """whether quality and cost rise with its value; otherwise they fall"""
    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False

    def turned(self, value: float) -> float:
        """The value so that quality rises with it; its own inverse."""
        return value if self.rises else -value

    def value(self, turned: float) -> float:
        """The setting nearest to a turned value: within the bounds, to a hundredth or a whole number."""
        plain = self.turned(turned)
        plain = plain if self.minimum is None else max(self.minimum, plain)
        plain = plain if self.maximum is None else min(self.maximum, plain)
        return round(plain) if self.whole else round(plain, 2)


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
    rank: int = 0
    """place among what its strategy proposes, most promising first"""
    dials: tuple[Dial, ...] = ()
    """its parameters that may be set between what is proposed"""
    begins: AppliedStep | None = None
    """of one that trains: the step that trains nothing and leaves what this one begins with"""
    repairs: float = 1.0
    """times the allowed loss that this training makes up for"""
    keeps: str = ""
    """name of the parameter that names an earlier artifact to stay near to; empty: it has none"""

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
class Ratios:
    """Figures as multiples of the float original's (1.0: unchanged)."""

    bytes: float = 1.0
    download: float = 1.0
    latency: float = 1.0
    memory: float = 1.0


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
    made_of: tuple[Proposal, ...] = ()
    """the proposals behind the steps"""

    @property
    def trained(self) -> tuple[AppliedStep, ...]:
        """The steps up to the last one that trains: what is dear about the pipeline. Empty: nothing trains."""
        ends = [at for at, item in enumerate(self.made_of, 1) if item.trains]
        return self.steps[: ends[-1]] if ends else ()

    @property
    def trainings(self) -> int:
        """How many steps train."""
        return sum(item.trains for item in self.made_of)

    @property
    def joint(self) -> bool:
        """Whether several of its steps lose something."""
        return sum(item.stage != "graph" for item in self.made_of) > 1

    def keeping(self, artifact: str) -> Candidate | None:
        """The same pipeline, its result as near to an earlier artifact as it can be; None where no step knows how."""
        able = [item for item in self.made_of if item.keeps and not item.params.get(item.keeps)]
        if not able:
            return None
        told = [replace(item, params={**item.params, item.keeps: artifact}) if item in able else item for item in self.made_of]
        return _candidate(tuple(told), self.predicted)

    def without(self, at: int) -> Candidate:
        """The pipeline that leaves out one step; its prediction is not known."""
        return _candidate(self.made_of[:at] + self.made_of[at + 1 :], Prediction())


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


def ratios(steps: Iterable[Proposal]) -> Ratios:
    """What several steps are expected to do together."""
    size, download, speed, memory = 1.0, 1.0, 1.0, 1.0
    for step in steps:
        size *= step.bytes_ratio
        download *= step.download_ratio
        speed *= step.latency_ratio
        memory *= step.memory_ratio
    return Ratios(size, download, speed, memory)


def pipelines(proposals: Sequence[Proposal]) -> list[tuple[Proposal, ...]]:
    """Every pipeline that the proposals allow: the original; the graph stage; then at most one proposal of each later stage.

    Every other structure is also tried with the fastest and the smallest precisions, since the structure is computed once for
    all of them; other pairs of lossy stages are limited to the first proposals of each strategy, which are the most promising by
    contract. A precision that trains follows a structure that trains too: both are dear, and neither undoes the other.
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
    cheap = [item for item in by_stage["precision"] if not item.trains]
    dear = _first_of_each([item for item in by_stage["precision"] if item.trains])
    for cut in by_stage["structure"]:
        found += [(*prefix, cut, exact) for exact in [*_followers(cheap), *(dear if cut.trains else [])]]
    found += [(*prefix, thin, exact) for thin in _first_of_each(by_stage["sparsity"]) for exact in _first_of_each(cheap)]
    return found


def _followers(precisions: Sequence[Proposal]) -> list[Proposal]:
    """What is worth trying on a smaller structure: the fastest precision, the smallest download, and the smallest download that
    the fastest one's strategy offers."""
    if not precisions:
        return []
    fastest = min(precisions, key=lambda item: (item.latency_ratio, item.bytes_ratio))
    smallest = min(precisions, key=lambda item: (item.download_ratio, item.latency_ratio))
    alike = [item for item in precisions if item.strategy == fastest.strategy]
    both = min(alike, key=lambda item: (item.download_ratio, item.latency_ratio))
    chosen = [fastest, both, smallest]
    return [item for at, item in enumerate(chosen) if item not in chosen[:at]]


def draw_up(
    model: str,
    profile: str,
    objective: str,
    wanted: Iterable[tuple[Proposal, ...]],
    refused: Iterable[Proposal],
    predict: Callable[[tuple[Proposal, ...]], Prediction],
    hopeless: Callable[[tuple[Proposal, ...], Prediction], tuple[float, str] | None],
    joules: Callable[[Ratios], float] | None = None,
) -> Plan:
    """Order the wanted pipelines and refuse the hopeless ones, keeping the nearest of those so that a goal that cannot be met
    still leaves an artifact.

    ``hopeless`` gives (how far, why) for a pipeline that cannot meet the profile, else None. ``joules``: what orders pipelines by
    energy where the profile declares no watts.
    """
    kept: list[tuple[float, Candidate]] = []
    lost: list[tuple[float, Candidate, str]] = []
    for steps in wanted:
        predicted = predict(steps)
        candidate = _candidate(steps, predicted)
        verdict = hopeless(steps, predicted)
        if verdict is None:
            kept.append((_weight(candidate, objective, joules), candidate))
        else:
            lost.append((verdict[0], candidate, verdict[1]))
    kept.sort(key=lambda item: item[0])
    lost.sort(key=lambda item: item[0])
    candidates = _most([candidate for _, candidate in kept])
    if not candidates:
        candidates = _nearest([candidate for far, candidate, _ in lost if far < float("inf")])
    refusals = [Refusal((item.step,), item.refused) for item in refused]
    refusals += [Refusal(one.steps, why, one.predicted) for _, one, why in lost if not _among(one.steps, candidates)]
    too_many = f"only the {_MOST_CHEAP} most promising are tried, {_MOST_JOINT} of several steps, and {_MOST_TRAINED} trainings"
    refusals += [Refusal(one.steps, too_many, one.predicted) for _, one in kept if not _among(one.steps, candidates)]
    return Plan(model, profile, objective, tuple(candidates), tuple(refusals))


def _most(ordered: Sequence[Candidate]) -> list[Candidate]:
    """As many as there is patience for, in their order: single lossy steps, then several, then what trains."""
    cheap = [one for one in ordered if not one.trains]
    kept = trainings(ordered)[:_MOST_TRAINED]
    return [
        *[one for one in cheap if not one.joint][:_MOST_CHEAP],
        *[one for one in cheap if one.joint][:_MOST_JOINT],
        *[one for one in ordered if one.trains and one.trained in kept],
    ]


def trainings(candidates: Sequence[Candidate]) -> list[Prefix]:
    """The distinct trained prefixes, most promising first: single trainings before double ones; what a strategy proposes first
    before what it proposes next, for it knows best what keeps the quality; then in the order of ``candidates``."""
    return [item.trained for item in _one_of_each_training(candidates)]


def favourites(candidates: Sequence[Candidate]) -> list[Prefix]:
    """Of the distinct trained prefixes those that nothing but the order of ``candidates`` sets apart from the first: what each
    strategy proposes first."""
    ordered = _one_of_each_training(candidates)
    return [item.trained for item in ordered if _place(item) == _place(ordered[0])]


def _one_of_each_training(candidates: Sequence[Candidate]) -> list[Candidate]:
    first: list[Candidate] = []
    for item in candidates:
        if item.trains and all(item.trained != other.trained for other in first):
            first.append(item)
    return sorted(first, key=_place)


def _place(candidate: Candidate) -> tuple[int, int]:
    return candidate.trainings, sum(item.rank for item in candidate.made_of if item.trains)


def distinct(items: Iterable[Prefix]) -> list[Prefix]:
    """Without repetitions, in their order. Parameters may hold lists, so that steps cannot be hashed."""
    found: list[Prefix] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _nearest(hopeless: Sequence[Candidate]) -> list[Candidate]:
    """Of pipelines that are predicted to miss the goals, the nearest: none that trains, which is no time well spent on a lost
    cause; one of another kind, since one kind may turn out to be impossible; and one that loses nothing, which always runs."""
    near = [one for one in hopeless if not one.trains] or list(hopeless)
    kept = near[:_NEAREST_KEPT]
    kept += [one for one in near if all(_kind(one) != _kind(other) and one.cuts <= other.cuts for other in kept)][:1]
    return kept + [one for one in near if one.lossless and not any(other.lossless for other in kept)][:1]


def _kind(candidate: Candidate) -> tuple[str, ...]:
    return tuple(step.strategy for step in candidate.steps)


def _first_of_each(proposals: Sequence[Proposal]) -> list[Proposal]:
    first: dict[str, Proposal] = {}
    for item in proposals:
        first.setdefault(item.strategy, item)
    return list(first.values())


def _candidate(steps: tuple[Proposal, ...], predicted: Prediction) -> Candidate:
    tolerance = max((item.golden_tolerance for item in steps), default=1e-3)
    lossless, trains = all(item.lossless for item in steps), any(item.trains for item in steps)
    cuts = any(item.stage == "structure" for item in steps)
    return Candidate(tuple(item.step for item in steps), predicted, lossless, tolerance, trains, cuts, steps)


def _weight(candidate: Candidate, objective: str, joules: Callable[[Ratios], float] | None) -> float:
    """What the objective makes small, as far as it can be told before anything is run."""
    expected = ratios(candidate.made_of)
    if objective == "size":
        return expected.bytes + SENT_COUNTS * expected.download
    if objective == "energy" and candidate.predicted.energy_joules is None and joules is not None:
        return joules(expected)
    return expected.latency


def _among(steps: tuple[AppliedStep, ...], candidates: Sequence[Candidate]) -> bool:
    return any(item.steps == steps for item in candidates)
