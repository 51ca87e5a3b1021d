"""What the metrics ask of the store: jobs, rollouts, and how far predictions were off."""

from __future__ import annotations

import pytest

from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.observed import prediction_errors, sources
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.artifact import CandidateResult, Energy, Latency, Measurement, Outcome
from edge_compress.domain.job import JobSpec, JobStatus
from edge_compress.domain.plan import Prediction
from edge_compress.domain.rollout import RolloutSpec, RolloutStatus
from edge_compress.domain.schema import encode
from edge_compress.metrics import Sources
from edge_compress.store.sqlite import SqliteStore


def outcome(predicted: Prediction, measured: Measurement) -> Outcome:
    chosen = CandidateResult((), "chosen", measurement=measured, predicted=encode(predicted))
    return Outcome("vision", "cam", "FEASIBLE", None, None, chosen, (chosen,), Measurement())


def observed(store: SqliteStore) -> Sources:
    ledger = UsageLedger(store)
    return sources(store, Fleet(store, ledger), ledger)


def test_errors_are_relative_to_what_was_measured_and_averaged() -> None:
    measured = Measurement(bytes=100, latency=Latency(0.010, 0.012), energy=Energy(0.5, "estimate"))
    errors = prediction_errors(
        [
            outcome(Prediction(bytes=150, latency_seconds=0.005, memory_bytes=7), measured),
            outcome(Prediction(bytes=90, energy_joules=0.6), measured),
        ]
    )
    assert errors == pytest.approx({"size": 0.3, "latency": 0.5, "energy": 0.2})


def test_an_outcome_without_an_artifact_says_nothing() -> None:
    nothing = Outcome("vision", "cam", "INFEASIBLE", "memory", "much", None, (), Measurement())
    assert prediction_errors([nothing]) == {}


def test_predictions_are_reckoned_anew_when_an_outcome_comes_or_goes(store: SqliteStore) -> None:
    predictions = observed(store).predictions
    assert predictions() == {}
    measured = Measurement(bytes=100)
    store.apply("Outcome", "a", labels={}, spec=encode(outcome(Prediction(bytes=150), measured)))
    assert predictions() == {"size": 0.5}
    store.apply("Outcome", "b", labels={}, spec=encode(outcome(Prediction(bytes=110), measured)))
    assert predictions() == pytest.approx({"size": 0.3})
    store.delete("Outcome", "a")
    assert predictions() == pytest.approx({"size": 0.1})


def test_jobs_and_rollouts_by_state(store: SqliteStore) -> None:
    for name, state in (("a", "Queued"), ("b", "Queued"), ("c", "Failed")):
        store.apply("Job", name, labels={}, spec=encode(JobSpec("k", "vision", "cam")), status=encode(JobStatus(state)))
    spec = encode(RolloutSpec("vision", "vision"))
    running = RolloutStatus("Progressing", 1, devices={"Committed": 3, "TimedOut": 1})
    store.apply("Rollout", "vision-2", labels={}, spec=spec, status=encode(running))
    store.apply("Rollout", "vision-1", labels={}, spec=spec, status=encode(RolloutStatus("Superseded", devices={"Trial": 9})))
    found = observed(store)
    assert found.rollout_states() == {"vision-2": "Progressing"}
    assert found.jobs() == {"Queued": 2, "Failed": 1}
    assert found.rollouts() == {("vision-2", "2", "Committed"): 3, ("vision-2", "2", "TimedOut"): 1}
