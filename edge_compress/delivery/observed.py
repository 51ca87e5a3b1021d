"""What the metrics ask of others when Prometheus asks: usage, devices, jobs, rollouts, and how far predictions were off.

Every function is called from the thread that serves a scrape. What the series are called is ``metrics``'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.artifact import Measurement, Outcome
from edge_compress.domain.job import JobStatus
from edge_compress.domain.plan import Prediction
from edge_compress.domain.rollout import RolloutState, RolloutStatus
from edge_compress.domain.schema import decode
from edge_compress.errors import Conflict
from edge_compress.metrics import Sources
from edge_compress.store.interface import ResourceStore, UsageTotals


def sources(store: ResourceStore, fleet: Fleet, ledger: UsageLedger) -> Sources:
    """Everything the metrics need that they do not count themselves."""
    return Sources(
        usage=lambda: _usage(ledger),
        devices=fleet.states,
        jobs=lambda: _jobs(store),
        rollouts=lambda: _rollouts(store),
        rollout_states=lambda: {name: status.state for name, status in _standing(store)},
        predictions=_Predictions(store).errors,
    )


def prediction_errors(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """Mean of |predicted - measured| / measured by quantity, over the artifacts that were chosen; a quantity of which nothing
    was predicted or measured is absent."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.chosen is not None:
            predicted = decode(Prediction, outcome.chosen.predicted, "predicted")
            for quantity, guess, real in _figures(predicted, outcome.chosen.measurement):
                if guess is not None and real:
                    found.setdefault(quantity, []).append(abs(guess - real) / real)
    return {quantity: sum(errors) / len(errors) for quantity, errors in found.items()}


def _figures(predicted: Prediction, real: Measurement) -> list[tuple[str, float | None, float | None]]:
    return [
        ("size", predicted.bytes, real.bytes),
        ("download", predicted.download_bytes, real.download_bytes),
        ("latency", predicted.latency_seconds, real.latency.p50 if real.latency else None),
        ("memory", predicted.memory_bytes, real.peak_memory_bytes),
        ("energy", predicted.energy_joules, real.energy.joules),
    ]


class _Predictions:
    """Prediction errors, reckoned anew only when an outcome was added: outcomes are large and rarely change."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._seen = 0
        self._errors: Mapping[str, float] = {}

    def errors(self) -> Mapping[str, float]:
        """Quantity -> mean relative error."""
        revision = self._store.revision()
        if self._changed():
            records = self._store.list("Outcome").records
            self._errors = prediction_errors(decode(Outcome, record.spec, "spec") for record in records)
        self._seen = revision
        return self._errors

    def _changed(self) -> bool:
        try:
            return self._seen == 0 or bool(self._store.events(["Outcome"], self._seen, 1))
        except Conflict:
            return True  # too long ago to tell


def _usage(ledger: UsageLedger) -> Iterable[tuple[Sequence[str], UsageTotals]]:
    return [((one.profile, one.model, one.version, one.cohort), one.totals) for one in ledger.series()]


def _jobs(store: ResourceStore) -> Mapping[str, int]:
    return Counter(decode(JobStatus, record.status, "status").state for record in store.list("Job").records)


def _rollouts(store: ResourceStore) -> Mapping[tuple[str, ...], int]:
    """(rollout, step from 1, device state) -> devices."""
    return {
        (name, str(status.step + 1), state): int(count)
        for name, status in _standing(store)
        for state, count in status.devices.items()
    }


def _standing(store: ResourceStore) -> Iterator[tuple[str, RolloutStatus]]:
    """The rollouts that are not superseded."""
    for record in store.list("Rollout").records:
        status = decode(RolloutStatus, record.status, "status")
        if status.state != RolloutState.SUPERSEDED:
            yield record.name, status
