"""The compression engine: facts, keys, plans, and the running of a plan to a verdict for one (model, profile) pair.

It joins the parts and decides nothing itself: ``planning`` asks the plugins, ``search`` runs candidates, ``concluding`` makes the
outcome of them, ``remembering`` knows it again. It keeps no state but the store's: stopped anywhere, it goes on from the steps
that were finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_compress.domain.allotment import Allotment, allot
from edge_compress.domain.calibration import Corrections
from edge_compress.domain.model import DataFacts, ModelFacts
from edge_compress.domain.plan import Plan
from edge_compress.domain.schema import decode, encode
from edge_compress.domain.spec import Model, ModelData
from edge_compress.errors import InvalidModel, StepFailed
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Store
from edge_compress.worker.budget import Budget, Clock
from edge_compress.worker.candidates import ORIGINAL, CandidateRunner, Tried
from edge_compress.worker.concluding import Conclusion
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
from edge_compress.worker.layers import LayerScan
from edge_compress.worker.originals import Originals
from edge_compress.worker.planning import Planner
from edge_compress.worker.remembering import OutcomeMemory, PairResult, renamed
from edge_compress.worker.search import Search
from edge_compress.worker.sending import Sending
from edge_compress.worker.settings import WorkerSettings
from edge_compress.worker.steps import Run, StepRunner, Work, digest, this_machine, versions_of
from edge_compress.worker.stopping import either

__all__ = ["Budget", "Engine", "PairRequest", "PairResult", "WorkerSettings"]

_CORE_LIBRARIES = ("edge-compress", "onnx", "onnxruntime", "numpy")
_PACE_SECONDS = 4.0
"""of training steps that tell the machine's pace"""


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
        self._originals = Originals(store.blobs, self.steps, self._settings)
        self._planner = Planner(self.steps, registry, self._settings)
        self._memory = OutcomeMemory(store)
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
        model = self._originals.as_onnx(model, Run(self._closing))
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
        """Digest of everything that decides the outcome but for what was delivered before; equal keys are the same work, which is
        not done again because its result, or another one, was delivered meanwhile."""
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
                **({} if request.corrections == Corrections() else {"corrections": encode(request.corrections)}),
            }
        )

    def plan(self, request: PairRequest, facts: ModelFacts | None = None) -> Plan:
        """What would be tried, with predictions and refusals. Runs no step and changes nothing."""
        run = Run(self._closing)
        if facts is not None:
            known = [role for role in ModelData.ROLES if getattr(request.model.spec.data, role)]
            return self._planner.plan(request, facts, [*known, "labels"], run)[0]
        model = self._originals.as_onnx(request.model, run)
        return self._planner.plan(request, self.facts(model_digest(model)), have(model, self.check_data(model)), run)[0]

    def update_bytes(self, sha256: str, previous: str) -> int | None:
        """Bytes that a device which runs ``previous`` is sent to get another artifact; None where either file is gone."""
        blobs = self._store.blobs
        return Sending(self._store, self.steps).update(sha256, previous) if blobs.has(sha256) and blobs.has(previous) else None

    def budget(self, requests: Sequence[PairRequest], seconds: float) -> Budget:
        """A budget that begins to run now, shared out among the profiles of one model: ``requests`` are all its pairs."""
        clock, plans = Clock.of(time.monotonic(), seconds), [self.plan(item) for item in requests]
        allotment = allot(plans, seconds, len(self._cores))
        return Budget(clock, replace(allotment, pace=self._pace(requests[0])) if allotment.prefixes else allotment)

    def run(
        self,
        request: PairRequest,
        *,
        progress: Callable[[float, str], None] = lambda fraction, message: None,
        cancelled: threading.Event | None = None,
        budget_seconds: float | None = None,
        budget: Budget | None = None,
    ) -> PairResult:
        """Run a plan to its verdict. Raises Cancelled, InvalidModel, InvalidData; a failing candidate is no error.

        ``budget_seconds`` is for a pair by itself; pairs of one model that run together share a ``budget``.
        """
        started = time.monotonic()
        if budget_seconds is not None:
            budget = self.budget([request], budget_seconds)
        run = Run(either(cancelled, self._closing), progress)
        request = replace(request, previous=self._previous(request))
        key, allotted = self._remembered_as(request), "" if budget is None else digest(encode(budget.allotment))
        if (known := self._memory.find(key, allotted)) is not None:
            progress(1.0, "already known")
            return renamed(known, request)
        given, request = request.model, replace(request, model=self._originals.as_onnx(request.model, run))
        facts, data = self.facts(model_digest(request.model)), self.check_data(request.model)
        plan, support = self._planner.plan(request, facts, have(request.model, data), run)
        unasked = Allotment(self._settings.unasked_training(by_recipe=request.recipe is not None))
        allowed = budget or Budget(Clock(), unasked)
        runner = self._runner(request, facts, data, allowed.allotment)
        tried = [] if support else _unless_it_runs(runner, run)
        if tried:
            support = f"{request.profile.spec.runtime} does not run the original: {tried[0].why}"
        elif not support:
            tried = Search(request, runner, len(self._cores), run, allowed).tried(plan)
        result = Conclusion(request, runner, self._registry, self._settings, run, started).result(plan, tried, support)
        original = "" if support else runner.baseline(Run(run.cancelled)).sha256
        scan = LayerScan(self._store, self.steps, self._registry, request, facts)
        result = scan.added_to(result, tried, original, Run(run.cancelled))
        result = self._of_given_size(result, given)
        self._memory.keep(key, allotted, result)
        progress(1.0, result.outcome.verdict)
        return result

    def _runner(
        self, request: PairRequest, facts: ModelFacts, data: Mapping[str, DataFacts], training: Allotment
    ) -> CandidateRunner:
        return CandidateRunner(
            store=self._store,
            steps=self.steps,
            registry=self._registry,
            request=request,
            facts=facts,
            metric=metric_name(request.model, dict(data)),
            samples=data[evaluation_role(request.model)].samples,
            settings=self._settings,
            training_seconds=training.seconds,
            training_pace=training.pace,
        )

    def _previous(self, request: PairRequest) -> str:
        """The artifact to stay near to, where that is still here and the steps are not prescribed."""
        here = bool(request.previous) and self._store.blobs.has(request.previous)
        return request.previous if here and request.recipe is None else ""

    def _remembered_as(self, request: PairRequest) -> str:
        key = self.key(request)
        return digest([key, request.previous]) if request.previous else key

    def _pace(self, request: PairRequest) -> float:
        """Multiply-accumulates of training a second and thread on this machine; 0 where nothing tells."""
        model = self._originals.as_onnx(request.model, Run(self._closing))
        facts = self.facts(model_digest(model))
        role = "training" if model.spec.data.training else "calibration"
        if (samples := source(model, role, facts, self._store.blobs)) is None:
            return 0.0
        decides = {"model": facts.sha256, "machine": this_machine(), "versions": versions_of((*_CORE_LIBRARIES, "torch"))}
        arguments = {
            "model": str(self._store.blobs.path(facts.sha256)),
            "source": samples,
            "macs": facts.macs,
            "run_seconds": _PACE_SECONDS,
        }
        try:
            return float(self._do(Work("training-speed", decides, arguments, self._settings.check))["macs_per_second"])
        except StepFailed:
            return 0.0

    def _of_given_size(self, result: PairResult, given: Model) -> PairResult:
        """The result, its original as large as the file that the user gave: plans reckon with the ONNX that it became."""
        original = replace(result.outcome.float_baseline, bytes=self._store.blobs.size(model_digest(given)))
        return replace(result, outcome=replace(result.outcome, float_baseline=original))

    def _facts_of(self, model: Model) -> ModelFacts:
        try:
            return self.facts(model_digest(model))
        except InvalidModel as error:
            raise error.within("spec.source", model.spec.source) from error

    def _do(self, work: Work) -> Mapping[str, Any]:
        return self.steps.result(work, Run(self._closing))

    def _needs_labels(self, model: Model) -> bool:
        asked = model.spec.quality.metric
        return bool(asked) and self._registry.quality_metric(asked).needs_labels


def _unless_it_runs(runner: CandidateRunner, run: Run) -> list[Tried]:
    """The original as a failed candidate where the runtime cannot run it: there is nothing then to hold others against."""
    try:
        runner.baseline(Run(run.cancelled))
    except StepFailed as error:
        return [Tried(ORIGINAL, "failed", f"{error.reason}: {error}", log=error.log)]
    return []
