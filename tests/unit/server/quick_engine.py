"""An engine that computes nothing: what becomes of a pair is decided by a behaviour, by the profile's name."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from edge_compress.domain.artifact import Artifact, GoldenVectors, Measurement, Outcome
from edge_compress.domain.model import DataFacts, ModelFacts
from edge_compress.domain.plan import Candidate, Plan, Prediction
from edge_compress.domain.schema import encode
from edge_compress.errors import Cancelled, InvalidData, InvalidModel
from edge_compress.worker.engine import PairRequest, PairResult


class QuickEngine:
    """Implements the engine's face. What it does to a pair is decided by ``behaviour``, by profile name."""

    def __init__(self, store, **ignored) -> None:
        self.store = store
        self.behaviour: dict[str, Callable] = {}
        self.ran: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.closing = threading.Event()
        self.idle = threading.Event()
        self._lock = threading.Lock()

    def facts(self, sha256: str) -> ModelFacts:
        data = self.store.blobs.path(sha256).read_bytes()
        if not data.startswith(b"model"):
            raise InvalidModel("spec.source: these bytes are no ONNX model")
        return ModelFacts(sha256, len(data), 18, (), ())

    def check_data(self, model) -> dict[str, DataFacts]:
        self.facts(model.spec.file(model.spec.source).sha256)
        found = {}
        for role in ("calibration", "evaluation"):
            if path := getattr(model.spec.data, role):
                if b"NaN" in self.store.blobs.path(model.spec.file(path).sha256).read_bytes():
                    raise InvalidData.at(f"spec.data.{role}", "NaN", "finite numbers")
                found[role] = DataFacts(10, True, 2)
        return found

    def key(self, request: PairRequest) -> str:
        said = repr(
            (encode(request.model.spec), encode(request.profile.spec), request.recipe, request.objective, request.corrections)
        )
        return hashlib.sha256(said.encode()).hexdigest()

    def plan(self, request: PairRequest, facts: ModelFacts | None = None) -> Plan:
        if facts is None:
            self.check_data(request.model)
        return Plan(request.model.name, request.profile.name, request.objective, (Candidate((), Prediction(100, 50)),))

    def update_bytes(self, sha256: str, previous: str) -> int | None:
        return 7 if self.store.blobs.has(sha256) and self.store.blobs.has(previous) else None

    def run(self, request, *, progress=lambda f, m: None, cancelled=None, budget_seconds=None) -> PairResult:
        with self._lock:
            self.ran.append(request.profile.name)
            self.idle.clear()
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            behave = self.behaviour.get(request.profile.name, yields())
            return behave(self, request, progress, cancelled or threading.Event())
        finally:
            with self._lock:
                self.at_once -= 1
                if self.at_once == 0:
                    self.idle.set()

    def close(self) -> None:
        self.closing.set()


def yields(data: bytes = b"artifact", verdict: str = "FEASIBLE"):
    """A behaviour: the pair's artifact is ``data``."""

    def behave(engine, request, progress, cancelled):
        sha256, golden = engine.store.blobs.put_bytes(data), engine.store.blobs.put_bytes(b"golden")
        infeasible = verdict != "FEASIBLE"
        outcome = Outcome(
            request.model.name,
            request.profile.name,
            verdict,
            "storage" if infeasible else None,
            "storage 8Ki is twice the 4Ki allowed" if infeasible else None,
            None,
            (),
            Measurement(),
        )
        vectors = GoldenVectors(golden, 6, 1, 0.0, 0.0)
        name = f"{request.model.name}-{sha256[:12]}"
        artifact = Artifact(
            name,
            request.model.name,
            request.profile.name,
            sha256,
            len(data),
            len(data),
            "onnxruntime",
            vectors,
            version=sha256[:12],
        )
        return PairResult(outcome, artifact)

    return behave


def raises(error: Exception):
    """A behaviour: the engine raises."""

    def behave(engine, request, progress, cancelled):
        raise error

    return behave


def waits(progress_to: float = 0.5):
    """A behaviour: says how far it is, then waits until it is cancelled or the engine closes."""

    def behave(engine, request, progress, cancelled):
        progress(progress_to, "waiting")
        while not (cancelled.is_set() or engine.closing.is_set()):
            time.sleep(0.01)
        raise Cancelled("stopped while it waited")

    return behave
