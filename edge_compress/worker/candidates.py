"""Makes and measures the candidates of one (model, profile) pair: steps, conversion, quality, latency, memory, golden vectors.

Every piece goes through ``StepRunner``, so that pairs that share a piece pay for it once. A candidate that fails is a ``Tried``
with state "failed" and why; only a cancelled run raises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from edge_compress.domain.artifact import Latency, Measurement, Quality
from edge_compress.domain.cost import excesses
from edge_compress.domain.model import LayerFacts, ModelFacts
from edge_compress.domain.plan import Candidate, Proposal
from edge_compress.domain.schema import encode
from edge_compress.errors import Cancelled, EdgeCompressError, StepFailed, StorageFull
from edge_compress.plugin.registry import Registry
from edge_compress.plugin.strategy import Strategy
from edge_compress.store.interface import Store
from edge_compress.worker.asking import artifact_parameters
from edge_compress.worker.costing import DeviceCosts
from edge_compress.worker.inputs import PairRequest, data_decides, evaluation_role, model_digest, source
from edge_compress.worker.sending import Sending
from edge_compress.worker.settings import WorkerSettings
from edge_compress.worker.spawn import ChildLimits
from edge_compress.worker.steps import Run, StepRunner, Work, digest, this_machine, version_of, versions_of

_BATCH_BYTES = 64 * 2**20
_FULLY_MEASURED_WHEN_NONE_FITS = 3
_MANY_SAMPLES = 2000
"""from which on the quality of a candidate that has clearly lost is not measured to the end"""
_OVERRUN, _OVERRUN_SECONDS = 1.25, 30.0
"""a training that takes this many times its seconds, and this many more, is stopped"""
ORIGINAL = Candidate(())

Gate = Callable[[Measurement], str]
"""Why a made file of known size need not be measured any further; empty: it must be"""


def open_gate(made: Measurement) -> str:
    """Everything is measured."""
    return ""


@dataclass(frozen=True)
class Tried:
    """A candidate and how far it got. ``state`` is measured, failed or skipped."""

    candidate: Candidate
    state: str = "measured"
    why: str = ""
    measurement: Measurement = Measurement()
    log: tuple[str, ...] = ()
    """last lines of a step that failed; else what its steps diagnosed"""
    layers: tuple[LayerFacts, ...] = ()
    """of the model that was made, before a target packed its names away"""


class CandidateRunner:
    """See the module."""

    def __init__(
        self,
        *,
        store: Store,
        steps: StepRunner,
        registry: Registry,
        request: PairRequest,
        facts: ModelFacts,
        metric: str,
        samples: int,
        settings: WorkerSettings,
        training_seconds: float | None = None,
        training_pace: float = 0.0,
    ) -> None:
        self._store, self._steps, self._registry = store, steps, registry
        self._request, self.facts, self._metric, self._samples = request, facts, metric, samples
        self._settings, self._sending = settings, Sending(store, steps)
        self._target = registry.target(request.profile.spec.runtime)
        self._target_plugin = registry.plugin_of("target", self._target.name)
        self._role = evaluation_role(request.model)
        self._training_seconds, self._pace = training_seconds or settings.step.seconds, training_pace
        self._baseline: Measurement | None = None
        self.costs = DeviceCosts(request, facts, registry)
        """what the figures measured here are on the profile's devices"""
        self.evaluation_seconds = 0.0
        """what measuring the original's quality took, once it was measured"""

    def baseline(self, run: Run) -> Measurement:
        """The float original in the target's format, with its quality."""
        if self._baseline is None:
            made = self._convert(ORIGINAL, model_digest(self._request.model), run)
            self._baseline = Measurement(made["sha256"], made["bytes"], quality=self._quality(made, None, run))
        return self._baseline

    def attempt(self, candidate: Candidate, run: Run, gate: Gate = open_gate) -> Tried:
        """Make a candidate and measure its quality, unless ``gate`` says that it has lost by its size already."""
        try:
            sha256 = model_digest(self._request.model)
            diagnosis: list[str] = []
            for proposal in candidate.made_of:
                value = self._apply(proposal, sha256, run)
                sha256 = str(value["sha256"])
                diagnosis += value.get("diagnosis", ())
            made = self._convert(candidate, sha256, run)
            sent, update = self._sending.download(made["sha256"]), self._update(made["sha256"])
            measured = Measurement(made["sha256"], made["bytes"], sent, update_bytes=update)
            if why := gate(measured):
                return Tried(candidate, "skipped", why, measured, tuple(diagnosis))
            measured = replace(measured, quality=self._quality(made, self.baseline(run).quality, run))
            layers = ModelFacts.from_json(made["facts"]).layers
            return Tried(candidate, measurement=measured, log=tuple(diagnosis), layers=layers)
        except (Cancelled, StorageFull):  # neither says anything about the candidate
            raise
        except StepFailed as error:
            return Tried(candidate, "failed", f"{error.reason}: {error}", log=error.log)
        except EdgeCompressError as error:
            return Tried(candidate, "failed", str(error))

    def measure(self, tried: Sequence[Tried], max_drop: float, run: Run) -> list[Tried]:
        """Latency and memory of the candidates still in the running; where none is, of the nearest ones."""
        judged = [item for item in tried if item.state == "measured"]
        over = {id(item): excesses(item.measurement, self._request.profile.spec, max_drop) for item in judged}
        promising = [item for item in judged if not over[id(item)]]
        if not promising:
            far = sorted(judged, key=lambda item: sum(excess.times for excess in over[id(item)]))
            promising = far[:_FULLY_MEASURED_WHEN_NONE_FITS]
        chosen = {id(item) for item in promising}
        # Side by side is fairest. Where one of them ends that for all (too large, too slow, a crash), each is timed apart below.
        with contextlib.suppress(StepFailed):
            self._latencies([item.measurement.sha256 for item in promising], run)
        timed = [self._with_latency(item, run) if id(item) in chosen else item for item in tried]
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="memory") as pool:
            return list(pool.map(lambda item: self._with_memory(item, run), timed))

    def settled(self, tried: Sequence[Tried], run: Run) -> list[Tried]:
        """The same candidates timed once more, side by side and for longer: what ran in different rounds is no match."""
        digests = list(dict.fromkeys(item.measurement.sha256 for item in tried))
        try:
            timed = self._time([self.baseline(run).sha256, *digests], run, self._settings.settling_seconds)
        except StepFailed:  # too large or too slow together: what each measured alone stands
            return list(tried)
        return [
            replace(item, measurement=replace(item.measurement, latency=_latency_of(timed[item.measurement.sha256])))
            for item in tried
        ]

    def _with_latency(self, item: Tried, run: Run) -> Tried:
        sha256 = item.measurement.sha256
        try:
            latency = self._latencies([sha256], run)[sha256]
        except StepFailed as error:
            return replace(item, state="failed", why=f"{error.reason}: when timed: {error}", log=error.log)
        return replace(item, measurement=replace(item.measurement, latency=latency))

    def _with_memory(self, item: Tried, run: Run) -> Tried:
        """With its peak memory, where it was timed."""
        if item.state != "measured" or item.measurement.latency is None:
            return item
        try:
            peak = self._memory(item.measurement.sha256, run)
        except StepFailed as error:
            return replace(item, state="failed", why=f"{error.reason}: when its memory was measured: {error}", log=error.log)
        return replace(item, measurement=replace(item.measurement, peak_memory_bytes=peak))

    def float_measurement(self, run: Run) -> Measurement:
        """The original with everything measured; its size is that of the file the user gave."""
        baseline = self.baseline(run)
        latency = self._latencies([baseline.sha256], run)[baseline.sha256]
        peak = self._memory(baseline.sha256, run)
        sent = self._sending.download(self.facts.sha256)
        own = replace(baseline, sha256=self.facts.sha256, bytes=self.facts.bytes, download_bytes=sent)
        return replace(own, latency=latency, peak_memory_bytes=peak)

    def golden(self, made: Tried, count: int, run: Run) -> Mapping[str, Any]:
        """Golden vectors of an artifact from real samples: sha256, bytes, samples, largest output magnitude."""
        sha256 = made.measurement.sha256
        outputs = [encode(item) for item in self.facts.outputs]
        arguments = {
            "plugin": self._target_plugin,
            "target": self._target.name,
            "artifact": self._path(sha256),
            "outputs": outputs,
            "samples": self._source(self._role),
            "count": count,
        }
        decides = {"artifact": sha256, "count": count, **self._data_key(self._role), **self._target_key()}
        return self._steps.result(Work("golden", decides, arguments, self._settings.step), run)

    # -- pieces -----------------------------------------------------------------------------------------------------------

    def _apply(self, step: Proposal, model: str, run: Run) -> Mapping[str, Any]:
        strategy = self._registry.strategy(step.strategy)
        plugin = self._registry.plugin_of("strategy", step.strategy)
        record = next(item for item in self._registry.records if item.name == plugin)
        requires = strategy.requires
        roles = [
            role
            for role, needed in (("calibration", requires.calibration or requires.training), ("training", requires.training))
            if needed
        ]
        seconds = self._training_seconds if step.trains else None
        decides = {
            "strategy": [step.strategy, step.version, record.distribution, record.version],
            "params": dict(step.params),
            "model": model,
            "teacher": self.facts.sha256 if requires.training else "",
            "seed": self._request.seed,
            "data": {role: data_decides(self._request.model, role, self.facts) for role in roles},
            "versions": versions_of(strategy.libraries),
            **({"seconds": seconds, "pace": self._pace} if seconds is not None else {}),
        }
        arguments = {
            "plugin": plugin,
            "strategy": step.strategy,
            "seconds": seconds,
            "pace": self._pace,
            "params": dict(step.params),
            "model": self._path(model),
            "teacher": self._path(self.facts.sha256),
            "seed": self._request.seed,
            "artifacts": self._artifacts(strategy, step.params),
            **{role: self._source(role) for role in roles},
        }
        shelf = digest({name: value for name, value in decides.items() if name not in ("params", "seconds", "pace")})
        work = Work("step", decides, arguments, self._step_limits(seconds), strategy=step.strategy, shelf=shelf)
        return self._steps.result(work, run)

    def _artifacts(self, strategy: Strategy[Any], params: Mapping[str, Any]) -> dict[str, str]:
        """Digest -> path of each artifact that the parameters name. Raises NotFound."""
        named = [params[name] for name in artifact_parameters(strategy.Params) if params.get(name)]
        return {sha256: self._path(sha256) for sha256 in named}

    def _step_limits(self, training_seconds: float | None) -> ChildLimits:
        """A training ends by itself; where its pace was misjudged, some grace keeps what was trained from being lost."""
        limits = self._settings.step
        if training_seconds is None:
            return limits
        return replace(limits, seconds=max(limits.seconds, _OVERRUN * training_seconds + _OVERRUN_SECONDS))

    def _update(self, sha256: str) -> int | None:
        """Bytes that a file takes for a device that runs the artifact before it; None where there is none."""
        previous = self._request.previous
        return self._sending.update(sha256, previous) if previous else None

    def _convert(self, candidate: Candidate, model: str, run: Run) -> Mapping[str, Any]:
        original = candidate is ORIGINAL or not candidate.steps
        lossless = candidate.lossless and not original
        teacher = "" if original else self.baseline(run).sha256
        variant = self._target.variant(self._request.profile.spec)
        decides = {"model": model, "original": self.facts.sha256, "lossless": lossless, "variant": variant, **self._target_key()}
        arguments = {
            "plugin": self._target_plugin,
            "target": self._target.name,
            "variant": variant,
            "model": self._path(model),
            "original": self.facts.to_json(),
            "teacher": self._path(self.facts.sha256),
            "teacher_artifact": self._path(teacher) if teacher else "",
            "lossless": lossless,
            "samples": self._source(self._role),
        }
        return self._steps.result(Work("convert", decides, arguments, self._settings.step), run)

    def _quality(self, made: Mapping[str, Any], reference: Quality | None, run: Run) -> Quality:
        sha256 = made["sha256"]
        batch_size = self._batch_size(made["facts"].get("ops", {}))
        metric = self._registry.quality_metric(self._metric)
        plugin = self._registry.plugin_of("quality metric", self._metric)
        baseline = sha256 if reference is None or self._baseline is None else self._baseline.sha256
        companions = len(self.facts.outputs) > 1 and baseline != sha256
        stop_at = None if reference is None or sha256 == baseline else self._worst_allowed(reference, metric.higher_is_better)
        record = next(item for item in self._registry.records if item.name == plugin)
        decides = {
            "artifact": sha256,
            "reference": baseline if metric.needs_reference or companions else "",
            "metric": [self._metric, record.distribution, record.version],
            "one_by_one": batch_size == 1,
            **({} if stop_at is None else {"stop_at": stop_at}),
            **self._data_key(self._role),
            **self._target_key(),
        }
        arguments = {
            "plugins": sorted({self._target_plugin, plugin}),
            "target": self._target.name,
            "metric": self._metric,
            "artifact": self._path(sha256),
            "reference": self._path(baseline),
            "companions": companions,
            "stop_at": stop_at,
            "samples": self._source(self._role),
            "batch_size": batch_size,
            "count": self._samples,
        }
        value = self._steps.result(Work("quality", decides, arguments, self._settings.step), run)
        if reference is None:
            self.evaluation_seconds = value["seconds"]
        low, high = value["confidence95"]
        before = value["value"] if reference is None else reference.value
        drop = before - value["value"] if metric.higher_is_better else value["value"] - before
        return Quality(self._metric, before, value["value"], drop, value["samples"], (low, high))

    def _worst_allowed(self, reference: Quality, higher_is_better: bool) -> float | None:
        """The metric's value below which a candidate has lost, where there are so many samples that it is worth to stop there."""
        if self._samples < _MANY_SAMPLES:
            return None
        drop = self._request.model.spec.quality.max_drop
        return reference.value - drop if higher_is_better else reference.value + drop

    def _latencies(self, digests: Sequence[str], run: Run) -> dict[str, Latency]:
        """Time artifacts together with the original; those timed before under the same settings are not timed again."""
        baseline = self.baseline(run).sha256
        wanted = list(dict.fromkeys([baseline, *digests]))
        known = {sha256: self._steps.cached(self._latency_key(sha256)) for sha256 in wanted}
        fresh = [sha256 for sha256 in wanted if known[sha256] is None]
        if fresh:
            timed = self._time(list(dict.fromkeys([baseline, *fresh])), run)
            for sha256 in fresh:
                self._store.put_step(self._latency_key(sha256), timed[sha256])
                known[sha256] = timed[sha256]
        return {sha256: _latency_of(value) for sha256, value in known.items() if value is not None}

    def _time(self, digests: Sequence[str], run: Run, seconds: float | None = None) -> Mapping[str, Any]:
        threads = self._request.profile.spec.threads
        seconds = seconds or self._settings.timing_seconds
        arguments = {
            "plugins": [self._target_plugin],
            "artifacts": [{"id": item, "target": self._target.name, "path": self._path(item)} for item in digests],
            "threads": threads,
            "seconds": seconds,
            "samples": self._source(self._role),
        }
        decides = {"artifacts": list(digests), "threads": threads, "seconds": seconds, **self._work_key()}
        return self._steps.result(Work("latency", decides, arguments, self._settings.step, cores=threads), run)

    def _latency_key(self, sha256: str) -> str:
        threads = self._request.profile.spec.threads
        baseline = self._baseline.sha256 if self._baseline else ""
        decides = {"artifact": sha256, "baseline": baseline, "threads": threads, **self._work_key()}
        return f"latency-of/{digest(decides)}"

    def _memory(self, sha256: str, run: Run) -> int:
        threads = self._request.profile.spec.threads
        decides = {"artifact": sha256, "threads": threads, **self._work_key()}
        arguments = {
            "plugins": [self._target_plugin],
            "target": self._target.name,
            "artifact": self._path(sha256),
            "threads": threads,
            "samples": self._source(self._role),
        }
        value = self._steps.result(Work("memory", decides, arguments, self._settings.step), run)
        return int(value["peak_memory_bytes"])

    def _batch_size(self, ops: Mapping[str, int]) -> int:
        """Samples at a time: one where a batch would share what each sample has for itself on a device, such as its range."""
        if not self.facts.batch_free or "DynamicQuantizeLinear" in ops:
            return 1
        one = max(self.facts.peak_activation_bytes, 1)
        return max(1, min(64, _BATCH_BYTES // one))

    def _target_key(self) -> dict[str, Any]:
        versions = versions_of(self._target.libraries)
        return {"target": [self._target.name, self._target.version, version_of("edge-compress"), versions]}

    def _work_key(self) -> dict[str, Any]:
        """What decides time and memory besides the artifact; the samples only where the model does more work for some of them."""
        free = any(not isinstance(axis, int) for item in self.facts.inputs for axis in item.shape[1:])
        samples = self._data_key(self._role) if free or self.facts.control_flow else {}
        return {"machine": this_machine(), **self._target_key(), **samples}

    def _data_key(self, role: str) -> dict[str, Any]:
        return {"samples": data_decides(self._request.model, role, self.facts)}

    def _source(self, role: str) -> dict[str, Any] | None:
        return source(self._request.model, role, self.facts, self._store.blobs)

    def _path(self, sha256: str) -> str:
        return str(self._store.blobs.path(sha256))


def _latency_of(value: Mapping[str, Any]) -> Latency:
    return Latency(
        value["p50"],
        value["p95"],
        ratio_to_float=value["ratio_to_float"],
        cpu_seconds=value["cpu_seconds"],
        cpu_ratio=value.get("cpu_ratio"),
    )
