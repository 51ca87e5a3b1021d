"""From what was tried to the pair's outcome: the choice, the artifact with its golden vectors, and what the figures say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edge_compress.domain.artifact import Artifact, CandidateResult, GoldenVectors, Measurement, Outcome, Verdict
from edge_compress.domain.choice import Choice, choose, fallbacks, undone
from edge_compress.domain.cost import compared, corrected
from edge_compress.domain.plan import Plan, Prediction, ratios
from edge_compress.domain.schema import encode
from edge_compress.domain.spec import DeviceProfileSpec
from edge_compress.plugin.registry import Registry
from edge_compress.worker.candidates import CandidateRunner, Tried
from edge_compress.worker.inputs import PairRequest
from edge_compress.worker.remembering import PairResult
from edge_compress.worker.settings import WorkerSettings
from edge_compress.worker.steps import Run


class Conclusion:
    """One pair's end. ``started``: monotonic seconds."""

    def __init__(
        self,
        request: PairRequest,
        runner: CandidateRunner,
        registry: Registry,
        settings: WorkerSettings,
        run: Run,
        started: float,
    ) -> None:
        self._request, self._runner, self._registry, self._settings = request, runner, registry, settings
        self._run, self._started = run, started

    def result(self, plan: Plan, tried: Sequence[Tried], support: str) -> PairResult:
        """The pair's result. ``support``: why the runtime cannot take the model at all; empty: it can."""
        request, facts, profile = self._request, self._runner.facts, self._request.profile.spec
        original = None if support else self._runner.float_measurement(Run(self._run.cancelled))
        results = [self._as_result(item, original) for item in tried]
        results += [
            CandidateResult(refusal.steps, "refused", refusal.why, predicted=_plain(refusal.predicted))
            for refusal in plan.refused
        ]
        reference = None if original is None else self._runner.costs.reported(original)
        choice = choose(results, profile, max_drop=request.model.spec.quality.max_drop, objective=request.objective)
        artifact, others = None, []
        if choice.chosen is not None:
            self._run.progress(0.95, "choosing golden vectors")
            artifact = self._artifact(choice.chosen, tried)
            max_drop, objective = request.model.spec.quality.max_drop, request.objective
            others = [self._artifact(item, tried) for item in fallbacks(choice, profile, max_drop=max_drop, objective=objective)]
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
            Measurement(facts.sha256, facts.bytes) if reference is None else reference,
            request.objective,
            time.monotonic() - self._started,
            (*self._undone(choice, reference), *_diagnosis(choice.candidates, profile)),
        )
        return PairResult(outcome, artifact, tuple(others))

    def _undone(self, choice: Choice, original: Measurement | None) -> tuple[str, ...]:
        """Steps that were left out for not helping; a recipe is run as it was written."""
        request = self._request
        if original is None or request.recipe is not None or choice.verdict is not Verdict.FEASIBLE:
            return ()
        drop, name = request.model.spec.quality.max_drop, request.profile.name
        return undone(choice, request.profile.spec, name, original, max_drop=drop, objective=request.objective)

    def _as_result(self, item: Tried, original: Measurement | None) -> CandidateResult:
        """With its prediction corrected by the original, ``original`` as measured here, and beside what was measured."""
        costs, steps = self._runner.costs, item.candidate.steps
        measured = costs.reported(item.measurement, steps)
        uncorrected = costs.plain(item.measurement) if costs.learned and item.state == "measured" else None
        predicted, beside = item.candidate.predicted, {}
        if original is not None:
            predicted = costs.foretold(corrected(ratios(item.candidate.made_of), costs.plain(original)), steps)
            beside = compared(predicted, measured) if item.state == "measured" else {}
        return CandidateResult(steps, item.state, item.why, measured, _plain(predicted), item.log, beside, uncorrected)

    def _artifact(self, chosen: CandidateResult, tried: Sequence[Tried]) -> Artifact:
        request, measured = self._request, chosen.measurement
        made = next(item for item in tried if item.candidate.steps == chosen.steps)
        return Artifact(
            name=f"{request.model.name}-{measured.sha256[:12]}",
            model=request.model.name,
            profile=request.profile.name,
            sha256=measured.sha256,
            bytes=measured.bytes,
            download_bytes=measured.download_bytes or measured.bytes,
            runtime=request.profile.spec.runtime,
            file_name=self._registry.target(request.profile.spec.runtime).file_name,
            golden=self._golden(made),
            recipe=chosen.steps,
            version=measured.sha256[:12],
            expected=replace(measured, update_bytes=None),  # no matter where it is updated from, it is the same artifact
        )

    def _golden(self, made: Tried) -> GoldenVectors:
        golden = self._runner.golden(made, self._settings.golden_samples, Run(self._run.cancelled))
        tolerance = made.candidate.golden_tolerance
        atol = max(tolerance * golden["largest"], 1e-6)
        return GoldenVectors(golden["sha256"], golden["bytes"], golden["samples"], tolerance, atol)


def _plain(predicted: Prediction) -> dict[str, Any]:
    plain: dict[str, Any] = encode(predicted)
    return plain


def _said(candidates: Sequence[CandidateResult]) -> list[str]:
    """What steps diagnosed, each line once, under the step of the shortest pipeline that says it: longer ones repeat it."""
    told: dict[str, str] = {}
    for item in sorted(candidates, key=lambda item: len(item.steps)):
        for line in item.log if item.state != "failed" else ():
            told.setdefault(line, f"{item.steps[-1].strategy}: {line}")
    return list(told.values())


def _diagnosis(candidates: Sequence[CandidateResult], profile: DeviceProfileSpec) -> tuple[str, ...]:
    """What the figures say beyond the verdict."""
    found = _said(candidates)
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
