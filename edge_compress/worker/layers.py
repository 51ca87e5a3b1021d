"""The layers of a pair's original and of what was chosen: bytes, time and sensitivity of each, added to the outcome together with
the facts and the limits that put them in proportion.

Every piece is a step of its own, kept by content: sensitivity once a model, times once an artifact. Nothing here can fail a
pair: what could not be had is absent, and the diagnosis says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from edge_compress.domain.artifact import Facts, Limits
from edge_compress.domain.layers import Timed, effort, same_layers, side_by_side
from edge_compress.domain.model import LayerFacts, ModelFacts
from edge_compress.domain.schema import decode
from edge_compress.errors import Cancelled, EdgeCompressError, StorageFull
from edge_compress.plugin.registry import Registry
from edge_compress.plugin.target import Target
from edge_compress.store.interface import Store
from edge_compress.worker.candidates import Tried
from edge_compress.worker.inputs import PairRequest, data_decides, evaluation_role, source
from edge_compress.worker.remembering import PairResult
from edge_compress.worker.spawn import ChildLimits
from edge_compress.worker.steps import Run, StepRunner, Work, this_machine, versions_of

_EFFORT_SECONDS = 6.0
"""nominal seconds that probing the layers of one model may take, which decides on how many samples it is done"""
_RUN_SECONDS = 0.15
_LIMITS = ChildLimits(seconds=30.0)
_LIBRARIES = ("edge-compress", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class LayerScan:
    """Looks into the layers of one pair."""

    store: Store
    steps: StepRunner
    registry: Registry
    request: PairRequest
    facts: ModelFacts
    troubles: list[str] = field(default_factory=list)

    def added_to(self, result: PairResult, tried: Sequence[Tried], original: str, run: Run) -> PairResult:
        """``result`` with the layers of the original and of the chosen candidate. ``original``: digest of the original in the
        target's format; empty where the runtime cannot take it. Raises Cancelled and StorageFull."""
        chosen = result.outcome.chosen
        made = next((item for item in tried if chosen is not None and item.candidate.steps == chosen.steps), None)
        after = made.layers if made else ()
        with ThreadPoolExecutor(max_workers=3, thread_name_prefix="layers") as pool:
            hurt = pool.submit(self._unless_it_fails, "probed", self._sensitivity, run)
            timed = pool.submit(self._unless_it_fails, "timed", self._times, run, original, self.facts.layers)
            later = pool.submit(self._unless_it_fails, "timed", self._times, run, made.measurement.sha256 if made else "", after)
        layers = side_by_side(
            self.facts.layers,
            after,
            timed=timed.result() or Timed(),
            timed_after=later.result() or Timed(),
            sensitivity=hurt.result(),
        )
        diagnosis = (*result.outcome.diagnosis, *dict.fromkeys(self.troubles))
        told = replace(result.outcome, layers=layers, facts=self._facts(), limits=self._limits(), diagnosis=diagnosis)
        return replace(result, outcome=told)

    def _facts(self) -> Facts:
        known = self.facts
        return Facts(known.macs, known.parameters, known.weight_bytes, known.peak_activation_bytes)

    def _limits(self) -> Limits:
        """What the verdict was judged by, for charts to show."""
        profile, quality = self.request.profile.spec, self.request.model.spec.quality
        return Limits(profile.storage, profile.memory, profile.latency_p95, quality.max_drop)

    def _unless_it_fails(self, what: str, ask: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ask(*arguments)
        except (Cancelled, StorageFull):
            raise
        except EdgeCompressError as error:
            self.troubles.append(f"layers could not be {what}: {error}")
            return None

    def _sensitivity(self, run: Run) -> Mapping[str, float]:
        planned = effort(self.facts.layers, _EFFORT_SECONDS)
        if not planned.names:
            return {}
        given = {"samples": planned.samples, "names": list(planned.names)}
        decides = {"model": self.facts.sha256, **given, "versions": versions_of(_LIBRARIES), "data": self._data()}
        arguments = {**given, "model": str(self.store.blobs.path(self.facts.sha256)), "source": self._source()}
        found: Mapping[str, float] = self.steps.result(Work("sensitivity", decides, arguments, _LIMITS), run)["errors"]
        return found

    def _times(self, run: Run, artifact: str, named: Sequence[LayerFacts]) -> Timed:
        """Times of an artifact's layers under the names they had before it was packed."""
        target, threads = self.registry.target(self.request.profile.spec.runtime), self.request.profile.spec.threads
        if not artifact or type(target).layer_seconds is Target.layer_seconds:
            return Timed()
        given = {"threads": threads, "run_seconds": _RUN_SECONDS, "target": target.name}
        version = [target.version, versions_of((*target.libraries, "edge-compress"))]
        decides = {"artifact": artifact, **given, "version": version, "machine": this_machine(), "data": self._data()}
        arguments = {
            **given,
            "plugin": self.registry.plugin_of("target", target.name),
            "artifact": str(self.store.blobs.path(artifact)),
            "source": self._source(),
        }
        value = self.steps.result(Work("layer-times", decides, arguments, _LIMITS, cores=threads), run)
        packed = [decode(LayerFacts, item["facts"], "layers") for item in value["layers"]]
        names = same_layers(named, packed)
        known = zip(packed, (item["time"] for item in value["layers"]), strict=True)
        seconds = {names[layer.name]: time for layer, time in known if layer.name in names and time is not None}
        return Timed(seconds, value["rest"] if seconds else None)

    def _data(self) -> Any:
        return data_decides(self.request.model, evaluation_role(self.request.model), self.facts)

    def _source(self) -> Any:
        return source(self.request.model, evaluation_role(self.request.model), self.facts, self.store.blobs)
