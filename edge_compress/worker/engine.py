"""The compression engine: facts, plans, and the running of a plan to a verdict for one (model, profile) pair.

It decides nothing itself: ``domain.plan`` says what to try, ``domain.choice`` what won. It keeps no state but the store's:
stopped anywhere, it goes on from the steps that were finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_compress.domain.artifact import (
    Artifact,
    CandidateResult,
    GoldenVectors,
    Measurement,
    Outcome,
)
from edge_compress.domain.choice import choose
from edge_compress.domain.cost import excesses, on_device, predict, predicted_excesses
from edge_compress.domain.model import DataFacts, ModelFacts
from edge_compress.domain.plan import Candidate, Plan, Prediction, Proposal, draw_up, pipelines
from edge_compress.domain.schema import decode, encode
from edge_compress.domain.spec import DeviceProfileSpec, Model, ModelData
from edge_compress.errors import Cancelled, InvalidInput, InvalidModel, StepFailed, TooLarge
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Store
from edge_compress.worker.candidates import CandidateRunner, Tried
from edge_compress.worker.cores import Cores
from edge_compress.worker.inputs import (
    PairRequest,
    data_decides,
    evaluation_role,
    have,
    metric_name,
    model_digest,
    source,
)
from edge_compress.worker.spawn import ChildLimits
from edge_compress.worker.steps import Run, StepRunner, Work, digest, this_machine, versions_of

__all__ = ["Engine", "PairRequest", "PairResult", "WorkerSettings"]

_CORE_LIBRARIES = ("edge-compress", "onnx", "onnxruntime", "numpy")
_NO_ANSWER = "its plugin failed when asked"
_NOT_NEEDED = "not needed: goals are met without training; give a budget to look further"


@dataclass(frozen=True)
class WorkerSettings:
    """Limits of the worker. Seconds and bytes."""

    step: ChildLimits = ChildLimits()
    check: ChildLimits = ChildLimits(seconds=120)
    propose: ChildLimits = ChildLimits(seconds=30, memory_bytes=2 * 2**30)
    max_model_bytes: int = 2 * 2**30
    timing_seconds: float = 0.4
    golden_samples: int = 4


@dataclass(frozen=True)
class PairResult:
    """The outcome, and the artifact to publish: for INFEASIBLE the nearest one, None when nothing could be made."""

    outcome: Outcome
    artifact: Artifact | None


class Engine:
    """See the module. Every method blocks and may be called from any thread."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        scratch: Path,
        settings: WorkerSettings | None = None,
        observe: Callable[[str, str, float], None] = lambda strategy, outcome, seconds: None,
        cores: Cores | None = None,
    ) -> None:
        scratch = scratch.resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        self._store, self._registry = store, registry
        self._settings = settings or WorkerSettings()
        self._cores = cores or Cores()
        self.steps = StepRunner(store, scratch, self._cores, observe)
        self._closing = threading.Event()

    def close(self) -> None:
        """Stop everything that runs; finished steps stay."""
        self._closing.set()

    def facts(self, sha256: str) -> ModelFacts:
        """Check an uploaded model in a child process and tell its facts. Raises InvalidModel, TooLarge."""
        limit = self._settings.max_model_bytes
        decides = {"model": sha256, "max_bytes": limit, "versions": versions_of(_CORE_LIBRARIES)}
        arguments = {"path": str(self._store.blobs.path(sha256)), "max_bytes": limit}
        value = self._do(Work("facts", decides, arguments, self._settings.check))
        plain = {**{key: value[key] for key in value if key != "seconds"}, "sha256": sha256}
        return ModelFacts.from_json(plain)

    def check_data(self, model: Model) -> dict[str, DataFacts]:
        """Check every data file against the model. Raises InvalidData naming ``spec.data.<role>``, and InvalidModel naming
        ``spec.source``."""
        facts = self._facts_of(model)
        evaluation = evaluation_role(model)
        found = {}
        for role in ModelData.ROLES:
            plain = source(model, role, facts, self._store.blobs)
            if plain is None:
                continue
            needs = role == evaluation and self._needs_labels(model)
            decides = {"data": data_decides(model, role, facts), "outputs": encode(facts)["outputs"], "labels": needs}
            arguments = {"source": plain, "needs_labels": needs, "model": facts.to_json()}
            value = dict(self._do(Work("data", decides, arguments, self._settings.check)))
            value.pop("seconds", None)
            found[role] = decode(DataFacts, value, "data")
        return found

    def key(self, request: PairRequest) -> str:
        """Digest of everything that decides the outcome; equal keys are the same work."""
        registry, model = self._registry, request.model.spec
        plugins = [(item.name, item.distribution, item.version) for item in registry.records if not item.error]
        offered: list[Any] = [*registry.strategies.values(), *registry.targets.values()]
        libraries = {name for item in offered for name in item.libraries}
        return digest(
            {
                "files": {path: getattr(model.file(path), "sha256", "") for path in sorted(model.paths().values())},
                "model": encode(replace(model, files=())),
                "profile": encode(request.profile.spec),
                "recipe": encode(request.recipe.spec) if request.recipe else "auto",
                "objective": request.objective,
                "seed": request.seed,
                "plugins": sorted(plugins),
                "offered": sorted([item.name, item.version] for item in offered),
                "versions": versions_of({*_CORE_LIBRARIES, *libraries}),
                "machine": this_machine(),
            }
        )

    def plan(self, request: PairRequest, facts: ModelFacts | None = None) -> Plan:
        """What would be tried, with predictions and refusals. Runs no step and changes nothing."""
        if facts is not None:
            known = [role for role in ModelData.ROLES if getattr(request.model.spec.data, role)]
            return self._plan(request, facts, [*known, "labels"], Run(self._closing))[0]
        model = request.model
        return self._plan(request, self.facts(model_digest(model)), have(model, self.check_data(model)), Run(self._closing))[0]

    def run(
        self,
        request: PairRequest,
        *,
        progress: Callable[[float, str], None] = lambda fraction, message: None,
        cancelled: threading.Event | None = None,
        budget_seconds: float | None = None,
    ) -> PairResult:
        """Run a plan to its verdict. Raises Cancelled, InvalidModel, InvalidData; a failing candidate is no error."""
        started = time.monotonic()
        run = Run(_either(cancelled, self._closing), progress)
        key = self.key(request)
        if (known := self._found_before(key, budget_seconds is not None)) is not None:
            progress(1.0, "already known")
            return _renamed(known, request)
        facts, data = self.facts(model_digest(request.model)), self.check_data(request.model)
        plan, support = self._plan(request, facts, have(request.model, data), run)
        deadline = None if budget_seconds is None else started + budget_seconds
        runner = CandidateRunner(
            store=self._store,
            steps=self.steps,
            registry=self._registry,
            request=request,
            facts=facts,
            metric=metric_name(request.model, data),
            samples=data[evaluation_role(request.model)].samples,
            settings=self._settings,
        )
        tried = self._search(request, runner, plan, run, deadline) if not support else []
        result = self._conclude(request, runner, plan, tried, support, facts, run, started)
        if not any(_may_differ_next_time(item) for item in result.outcome.candidates):
            self._remember(_outcome_key(key, budget_seconds is not None), result)
        progress(1.0, result.outcome.verdict)
        return result

    def _facts_of(self, model: Model) -> ModelFacts:
        try:
            return self.facts(model_digest(model))
        except InvalidModel as error:
            raise error.within("spec.source", model.spec.source) from error

    # -- planning ---------------------------------------------------------------------------------------------------------

    def _plan(self, request: PairRequest, facts: ModelFacts, have_: Sequence[str], run: Run) -> tuple[Plan, str]:
        """The plan, and why the runtime cannot take the model at all (empty: it can)."""
        profile = request.profile.spec
        target = self._registry.target(profile.runtime)
        support = target.supports(facts, profile)
        proposals, broken = self._proposals(request, facts, have_, run)
        usable = [item for item in proposals if not item.refused]
        wanted = pipelines(proposals) if request.recipe is None else [tuple(sorted(usable, key=lambda item: item.index))]
        refused = [*broken, *(item for item in proposals if item.refused)]
        if request.recipe is not None and refused:
            wanted = []
        plan = draw_up(
            request.model.name,
            request.profile.name,
            request.objective,
            wanted,
            refused,
            lambda steps: predict(facts, profile, steps),
            lambda steps, predicted: _hopeless(steps, predicted, profile, facts),
        )
        return plan, "" if support.ok else f"{target.name} cannot take this model, because {support.reason}"

    def _proposals(
        self, request: PairRequest, facts: ModelFacts, have_: Sequence[str], run: Run
    ) -> tuple[list[Proposal], list[Proposal]]:
        """Ask each plugin in a child process of its own; one that crashes or hangs there is refused with what happened."""
        steps = None
        if request.recipe is not None:
            steps = [
                {"strategy": item.strategy, "params": dict(item.params), "index": index}
                for index, item in enumerate(request.recipe.spec.steps)
            ]
            for index, item in enumerate(request.recipe.spec.steps):
                self._registry.strategy(item.strategy, f"spec.steps[{index}].strategy")
        found: list[Proposal] = []
        broken: list[Proposal] = []
        for record in self._registry.records:
            asked = None if steps is None else [item for item in steps if item["strategy"] in record.strategies]
            if not record.strategies or asked == []:
                continue
            try:
                found += self._ask(record, facts, request.profile.spec, have_, asked, run)
            except (StepFailed, InvalidInput, TooLarge) as error:
                if steps is not None and isinstance(error, InvalidInput):
                    raise  # what the recipe says is wrong
                broken += [Proposal(name, "", "graph", refused=f"{_NO_ANSWER}: {error}") for name in record.strategies]
        return found, broken

    def _ask(
        self, record: Any, facts: ModelFacts, profile: DeviceProfileSpec, have_: Sequence[str], steps: Any, run: Run
    ) -> list[Proposal]:
        arguments = {
            "plugin": record.name,
            "model": facts.to_json(),
            "profile": encode(profile),
            "have": sorted(have_),
            "steps": steps,
        }
        strategies = {name: self._registry.strategies[name].version for name in record.strategies}
        decides = {**arguments, "plugin": [record.name, record.distribution, record.version], "strategies": strategies}
        value = self.steps.result(Work("propose", decides, arguments, self._settings.propose), run)
        return [decode(Proposal, item, "proposal") for item in value["proposals"]]

    # -- running ----------------------------------------------------------------------------------------------------------

    def _search(self, request: PairRequest, runner: CandidateRunner, plan: Plan, run: Run, deadline: float | None) -> list[Tried]:
        """Try the cheap candidates; those that train only where the cheap ones miss a goal, the user gave a budget for more, or
        a recipe names them."""
        cheap = [item for item in plan.candidates if not item.trains]
        dear = [item for item in plan.candidates if item.trains]
        tried = self._measured(request, runner, self._try_all(runner, cheap, run, deadline), run)
        if not dear:
            return tried
        if request.recipe is None and deadline is None and self._any_good(request, runner, tried):
            return tried + [Tried(item, state="refused", why=_NOT_NEEDED) for item in dear]
        needed = not any(item.state == "measured" for item in tried)
        return tried + self._measured(request, runner, self._try_all(runner, dear, run, deadline, int(needed)), run)

    def _measured(self, request: PairRequest, runner: CandidateRunner, tried: list[Tried], run: Run) -> list[Tried]:
        run.progress(0.82, "measuring latency and memory")
        return runner.measure(tried, request.model.spec.quality.max_drop, Run(run.cancelled))

    def _any_good(self, request: PairRequest, runner: CandidateRunner, tried: Sequence[Tried]) -> bool:
        profile, max_drop = request.profile.spec, request.model.spec.quality.max_drop
        judged = [on_device(item.measurement, runner.facts, profile) for item in tried if item.state == "measured"]
        return any(item.latency is not None and not excesses(item, profile, max_drop) for item in judged)

    def _try_all(
        self, runner: CandidateRunner, candidates: Sequence[Candidate], run: Run, deadline: float | None, at_least: int = 1
    ) -> list[Tried]:
        """Make and judge candidates in their order, as many at a time as there are cores. At the deadline those that run are
        stopped, once ``at_least`` so many were made."""
        done = made = 0
        lock = threading.Lock()
        late = _When(lambda: deadline is not None and time.monotonic() > deadline and made >= at_least)
        quiet = Run(run.cancelled)
        run.progress(0.0, "measuring the original")

        def attempt(candidate: Candidate) -> Tried:
            nonlocal done, made
            if late.is_set():
                return Tried(candidate, state="skipped", why="the time budget ended before its turn")
            try:
                tried = runner.attempt(candidate, Run(_either(run.cancelled, late)))
            except Cancelled:
                if run.cancelled.is_set():
                    raise
                return Tried(candidate, state="skipped", why="the time budget ended while it was made")
            with lock:
                done, made = done + 1, made + (tried.state == "measured")
                run.progress(0.8 * done / len(candidates), f"tried {done} of {len(candidates)} candidates")
            return tried

        runner.baseline(quiet)
        with ThreadPoolExecutor(max_workers=len(self._cores), thread_name_prefix="candidate") as pool:
            futures = [pool.submit(attempt, candidate) for candidate in candidates]
            return [future.result() for future in futures]

    def _conclude(
        self,
        request: PairRequest,
        runner: CandidateRunner,
        plan: Plan,
        tried: list[Tried],
        support: str,
        facts: ModelFacts,
        run: Run,
        started: float,
    ) -> PairResult:
        profile = request.profile.spec
        max_drop = request.model.spec.quality.max_drop
        quiet = Run(run.cancelled)
        results = [self._as_result(item, facts, profile) for item in tried]
        results += [
            CandidateResult(refusal.steps, "refused", refusal.why, predicted=_plain(refusal.predicted))
            for refusal in plan.refused
        ]
        choice = choose(results, profile, max_drop=max_drop, objective=request.objective)
        baseline = (
            on_device(runner.float_measurement(quiet), facts, profile) if not support else Measurement(facts.sha256, facts.bytes)
        )
        artifact = None
        if choice.chosen is not None:
            run.progress(0.95, "choosing golden vectors")
            artifact = self._artifact(request, runner, choice.chosen, tried, quiet)
        elif support:
            choice = replace(choice, binding_constraint="runtime", gap=support)
        elif request.recipe is not None and plan.refused:
            choice = replace(choice, binding_constraint="precision", gap=plan.refused[0].why)
        outcome = Outcome(
            request.model.name,
            request.profile.name,
            choice.verdict.value,
            choice.binding_constraint,
            choice.gap,
            choice.chosen,
            choice.candidates,
            baseline,
            request.objective,
            time.monotonic() - started,
            _diagnosis(choice.candidates, profile),
        )
        return PairResult(outcome, artifact)

    def _as_result(self, item: Tried, facts: ModelFacts, profile: DeviceProfileSpec) -> CandidateResult:
        measured = on_device(item.measurement, facts, profile)
        return CandidateResult(item.candidate.steps, item.state, item.why, measured, _plain(item.candidate.predicted), item.log)

    def _artifact(
        self, request: PairRequest, runner: CandidateRunner, chosen: CandidateResult, tried: list[Tried], run: Run
    ) -> Artifact:
        made = next(item for item in tried if item.candidate.steps == chosen.steps)
        golden = runner.golden(made, self._settings.golden_samples, run)
        tolerance = made.candidate.golden_tolerance
        measured = chosen.measurement
        return Artifact(
            name=f"{request.model.name}-{measured.sha256[:12]}",
            model=request.model.name,
            profile=request.profile.name,
            sha256=measured.sha256,
            bytes=measured.bytes,
            download_bytes=measured.download_bytes or measured.bytes,
            runtime=request.profile.spec.runtime,
            file_name=self._registry.target(request.profile.spec.runtime).file_name,
            golden=GoldenVectors(
                golden["sha256"], golden["bytes"], golden["samples"], tolerance, max(tolerance * golden["largest"], 1e-6)
            ),
            recipe=chosen.steps,
            version=measured.sha256[:12],
            expected=measured,
        )

    # -- remembering ------------------------------------------------------------------------------------------------------

    def _found_before(self, key: str, searched: bool) -> PairResult | None:
        """The outcome that is remembered. With a budget (``searched``) one that left training out is no answer."""
        if searched and (known := self._known(_outcome_key(key, True))) is not None:
            return known
        known = self._known(_outcome_key(key, False))
        return None if known and searched and any(item.why == _NOT_NEEDED for item in known.outcome.candidates) else known

    def _known(self, key: str) -> PairResult | None:
        value = self._store.step(key)
        if value is None:
            return None
        artifact = decode(Artifact, value["artifact"]) if value["artifact"] else None
        blobs = self._store.blobs
        if artifact is not None and not (blobs.has(artifact.sha256) and blobs.has(artifact.golden.sha256)):
            return None
        return PairResult(decode(Outcome, value["outcome"]), artifact)

    def _remember(self, key: str, result: PairResult) -> None:
        artifact = encode(result.artifact) if result.artifact else None
        self._store.put_step(key, {"outcome": encode(result.outcome), "artifact": artifact})

    def _do(self, work: Work) -> Mapping[str, Any]:
        return self.steps.result(work, Run(self._closing))

    def _needs_labels(self, model: Model) -> bool:
        asked = model.spec.quality.metric
        return bool(asked) and self._registry.quality_metric(asked).needs_labels


def _hopeless(
    steps: tuple[Proposal, ...], predicted: Prediction, profile: DeviceProfileSpec, facts: ModelFacts
) -> tuple[float, str] | None:
    """Why a pipeline cannot meet the profile, and how far off it is; infinitely far: it must not run at all."""
    lowered = any(item.stage == "precision" for item in steps)
    if not lowered and not facts.quantized and "fp32" not in profile.precisions:
        return float("inf"), f"computes in fp32, but the profile allows only {', '.join(profile.precisions)}"
    over = predicted_excesses(predicted, profile)
    if over:
        return sum(item.times for item in over), "predicted: " + "; ".join(item.words for item in over)
    return None


def _outcome_key(key: str, searched: bool) -> str:
    return f"{'search' if searched else 'outcome'}/{key}"


def _may_differ_next_time(item: CandidateResult) -> bool:
    """Whether a candidate's end came from the clock or the machine rather than from what was asked."""
    unasked = item.state == "refused" and item.why.startswith(_NO_ANSWER)
    stopped = item.state == "failed" and item.why.startswith(("timeout:", "memory:", "crash:"))
    return item.state == "skipped" or unasked or stopped


def _renamed(known: PairResult, request: PairRequest) -> PairResult:
    """A result under the names of ``request``: a pair with other names may have been the first to do the same work."""
    model, profile, artifact = request.model.name, request.profile.name, known.artifact
    if artifact is not None:
        artifact = replace(artifact, name=f"{model}-{artifact.sha256[:12]}", model=model, profile=profile)
    return PairResult(replace(known.outcome, model=model, profile=profile), artifact)


def _plain(predicted: Prediction) -> dict[str, Any]:
    plain: dict[str, Any] = encode(predicted)
    return plain


def _diagnosis(candidates: Sequence[CandidateResult], profile: DeviceProfileSpec) -> tuple[str, ...]:
    """What the figures say beyond the verdict."""
    found = [f"{item.steps[-1].strategy}: {line}" for item in candidates if item.state != "failed" for line in item.log]
    slower = [
        item
        for item in candidates
        if item.steps and item.measurement.latency and (item.measurement.latency.ratio_to_float or 0) > 1.05
    ]
    if slower:
        names = ", ".join(sorted({item.steps[-1].strategy for item in slower}))
        found.append(f"slower than the float original here: {names}")
    if profile.power_budget is not None and profile.compute.watts_per_core is None:
        found.append("power_budget was not checked: the profile declares no compute.watts_per_core and no meter has reported")
    failed = [item for item in candidates if item.state == "failed"]
    found += [f"{item.steps[-1].strategy if item.steps else 'original'} failed: {item.why}" for item in failed]
    return tuple(found)


class _When(threading.Event):
    """Set when ``holds`` says so."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        super().__init__()
        self._holds = holds

    def is_set(self) -> bool:
        return self._holds()


class _Either(threading.Event):
    """Set when either of two events is."""

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        super().__init__()
        self._pair = (first, second)

    def is_set(self) -> bool:
        return any(item.is_set() for item in self._pair)


def _either(first: threading.Event | None, second: threading.Event) -> threading.Event:
    return second if first is None else _Either(first, second)
