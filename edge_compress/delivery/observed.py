"""What the metrics ask of others when Prometheus asks: usage, devices, jobs, rollouts, and how far predictions were off.

Every function is called from the thread that serves a scrape. What the series are called is ``metrics``'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from edge_compress.delivery.device_totals import DeviceTotals
from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.remembered import Remembered
from edge_compress.delivery.usage import UsageLedger
from edge_compress.device_metrics import DeviceFigures, DeviceMetrics
from edge_compress.domain.artifact import Measurement, Outcome
from edge_compress.domain.job import JobStatus
from edge_compress.domain.plan import Prediction
from edge_compress.domain.rollout import RolloutState, RolloutStatus
from edge_compress.domain.schema import decode
from edge_compress.metrics import Sources
from edge_compress.store.interface import Record, ResourceStore, UsageTotals


def sources(
    store: ResourceStore, fleet: Fleet, ledger: UsageLedger, reported: Callable[[], Mapping[str, float]] = dict
) -> Sources:
    """Everything the metrics need that they do not count themselves. ``reported``: quantity -> how far predictions were off what
    devices report, which counts before what was measured here."""
    predicted = Remembered(store, "Outcome", _predictions)
    return Sources(
        usage=lambda: _usage(ledger),
        devices=fleet.states,
        jobs=Remembered(store, "Job", _jobs).value,
        rollouts=Remembered(store, "Rollout", _rollouts).value,
        rollout_states=Remembered(store, "Rollout", _rollout_states).value,
        predictions=lambda: {**predicted.value(), **reported()},
    )


class DeviceBoard:
    """Keeps the series of single devices as the fleet and the ledger change. Give it to both before they load."""

    def __init__(self, metrics: DeviceMetrics) -> None:
        self.totals = DeviceTotals()
        self._metrics = metrics

    def follow(self, fleet: Fleet) -> None:
        """Show each device whenever it or its totals change."""

        def look(name: str) -> None:
            figures = _figures_of(fleet, self.totals, name)
            if figures is not None:
                self._metrics.show(figures)
            else:
                self._metrics.forget(name)

        fleet.noted = self.totals.changed = look


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


def _usage(ledger: UsageLedger) -> Iterable[tuple[Sequence[str], UsageTotals]]:
    return [((one.profile, one.model, one.version, one.cohort), one.totals) for one in ledger.series()]


def _figures_of(fleet: Fleet, totals: DeviceTotals, name: str) -> DeviceFigures | None:
    device, heard = fleet.device(name), fleet.heard_at(name)
    if device is None:
        return None
    profile, status = device.spec.profile, device.status
    return DeviceFigures(
        name,
        profile,
        status.model,
        status.version,
        status.state,
        heard is not None,
        heard or status.last_seen,
        status.p95_seconds,
        totals.of(name, profile, status.model, status.version),
    )


def _predictions(records: Iterable[Record]) -> Mapping[str, float]:
    return prediction_errors(decode(Outcome, record.spec, "spec") for record in records)


def _jobs(records: Iterable[Record]) -> Mapping[str, int]:
    return Counter(decode(JobStatus, record.status, "status").state for record in records)


def _rollouts(records: Iterable[Record]) -> Mapping[tuple[str, ...], int]:
    """(rollout, step from 1, device state) -> devices."""
    return {
        (name, str(status.step + 1), state): int(count)
        for name, status in _standing(records)
        for state, count in status.devices.items()
    }


def _rollout_states(records: Iterable[Record]) -> Mapping[str, str]:
    return {name: status.state for name, status in _standing(records)}


def _standing(records: Iterable[Record]) -> Iterator[tuple[str, RolloutStatus]]:
    """The rollouts that are not superseded."""
    for record in records:
        status = decode(RolloutStatus, record.status, "status")
        if status.state != RolloutState.SUPERSEDED:
            yield record.name, status
