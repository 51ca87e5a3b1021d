"""The report that people and scripts read: outcomes in the contract's JSON, milliseconds and millijoules as it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_compress.domain.artifact import (
    AppliedStep,
    CandidateResult,
    Energy,
    Facts,
    Latency,
    Limits,
    Measurement,
    Outcome,
    Quality,
)
from edge_compress.domain.layers import LayerReport


def report_entry(outcomes: Sequence[Outcome], artifacts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One model's entry: ``float`` and ``profiles``. ``artifacts`` maps profile -> path of its artifact, where there is one."""
    paths = artifacts or {}
    # A profile whose runtime cannot take the model has measured nothing of the original.
    known = [outcome.float_baseline for outcome in outcomes]
    baseline = next((item for item in known if item.quality is not None), known[0] if known else Measurement())
    return {
        "float": {
            "bytes": baseline.bytes,
            "quality": _reference(baseline.quality),
            "latency_ms": _latency(baseline.latency),
            "peak_memory_bytes": baseline.peak_memory_bytes,
            "energy_mj": _energy(baseline.energy),
            **_facts([outcome.facts for outcome in outcomes]),
        },
        "profiles": {outcome.profile: _profile(outcome, paths.get(outcome.profile)) for outcome in outcomes},
    }


def _profile(outcome: Outcome, path: str | None) -> dict[str, Any]:
    chosen = outcome.chosen
    measured = chosen.measurement if chosen else Measurement()
    return {
        "verdict": outcome.verdict,
        "binding_constraint": outcome.binding_constraint,
        "gap": outcome.gap,
        "objective": outcome.objective,
        "limits": _limits(outcome.limits),
        "artifact": path,
        "sha256": measured.sha256 or None,
        **_figures(measured if chosen else None),
        "float": {"latency_ms": _latency(outcome.float_baseline.latency), "energy_mj": _energy(outcome.float_baseline.energy)},
        "prediction": dict(chosen.prediction) if chosen else {},
        "recipe": [_step(step) for step in chosen.steps] if chosen else [],
        "candidates": [_candidate(item) for item in outcome.candidates],
        "diagnosis": list(outcome.diagnosis),
        "layers": [_layer(item) for item in outcome.layers],
        "seconds": round(outcome.seconds, 3),
    }


def _facts(known: Sequence[Facts]) -> dict[str, Any]:
    """What the original is; null where it was not told or does not follow from the file."""
    facts = max(known, key=lambda item: item.weight_bytes, default=Facts())
    return {key: value or None for key, value in vars(facts).items()}


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "storage_bytes": limits.storage,
        "memory_bytes": limits.memory,
        "latency_p95_ms": _milliseconds(limits.latency_p95),
        "max_drop": limits.max_drop,
    }


def _candidate(item: CandidateResult) -> dict[str, Any]:
    ran = item.state not in ("refused", "skipped", "failed")
    return {
        "state": item.state,
        "why": item.why,
        "recipe": [_step(step) for step in item.steps],
        **_figures(item.measurement if ran else None),
        "predicted": dict(item.predicted),
        "prediction": dict(item.prediction),
        "log": list(item.log),
    }


def _layer(item: LayerReport) -> dict[str, Any]:
    return {
        "name": item.name,
        "op": item.op,
        "macs": item.macs,
        "bytes": item.bytes,
        "bytes_after": item.bytes_after,
        "time_ms": _milliseconds(item.seconds),
        "time_after_ms": _milliseconds(item.seconds_after),
        "sensitivity": None if item.sensitivity is None else round(item.sensitivity, 6),
        "note": item.note,
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 6)


def _figures(measured: Measurement | None) -> dict[str, Any]:
    if measured is None or not measured.sha256:
        keys = ("bytes", "download_bytes", "update_bytes", "quality", "latency_ms", "peak_memory_bytes", "energy_mj")
        return dict.fromkeys(keys)
    return {
        "bytes": measured.bytes,
        "download_bytes": measured.download_bytes,
        "update_bytes": measured.update_bytes,
        "quality": _quality(measured.quality),
        "latency_ms": _latency(measured.latency),
        "peak_memory_bytes": measured.peak_memory_bytes,
        "energy_mj": _energy(measured.energy),
    }


def _reference(quality: Quality | None) -> dict[str, Any] | None:
    if quality is None:
        return None
    return {
        "metric": quality.metric,
        "value": round(quality.reference, 6),
        "samples": quality.samples,
        "confidence95": [round(value, 6) for value in quality.confidence95],
    }


def _quality(quality: Quality | None) -> dict[str, Any] | None:
    if quality is None:
        return None
    return {
        "metric": quality.metric,
        "float": round(quality.reference, 6),
        "value": round(quality.value, 6),
        "drop": round(quality.drop, 6),
        "samples": quality.samples,
        "confidence95": [round(value, 6) for value in quality.confidence95],
    }


def _latency(latency: Latency | None) -> dict[str, Any] | None:
    if latency is None:
        return None
    return {
        "p50": round(latency.p50 * 1000, 6),
        "p95": round(latency.p95 * 1000, 6),
        "source": latency.source,
        "ratio_to_float": None if latency.ratio_to_float is None else round(latency.ratio_to_float, 4),
    }


def _energy(energy: Energy) -> dict[str, Any]:
    value = None if energy.joules is None else round(energy.joules * 1000, 6)
    return {"value": value, "source": energy.source}


def _step(step: AppliedStep) -> dict[str, Any]:
    return {"strategy": step.strategy, "params": dict(step.params)}
