"""What a model should cost on a device before it is run there, and how a measured candidate stands against a profile's limits.

Latency starts from a roofline (``domain.roofline``). Energy is processor time times declared watts, marked as an estimate. Where
a profile declares nothing, there is no prediction rather than a guess, until the float original was measured: then every
prediction is that measurement times what a pipeline is expected to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_compress.domain.artifact import Energy, Latency, Measurement, Source
from edge_compress.domain.model import ModelFacts
from edge_compress.domain.plan import Prediction, Proposal, Ratios, ratios
from edge_compress.domain.quantity import SECONDS, WATTS
from edge_compress.domain.roofline import comparable_joules as comparable_joules
from edge_compress.domain.roofline import float_seconds as float_seconds
from edge_compress.domain.spec import DeviceProfileSpec

ESTIMATE = "estimate"


@dataclass(frozen=True)
class Excess:
    """A limit that is not kept. ``times`` is how many times over the limit the figure is (above 1)."""

    constraint: str
    times: float
    words: str


def predict(facts: ModelFacts, profile: DeviceProfileSpec, steps: tuple[Proposal, ...]) -> Prediction:
    """What a pipeline should cost: the float original's figures times what each step is expected to do."""
    expected = ratios(steps)
    base = float_seconds(facts, profile)
    seconds = None if base is None else base * expected.latency
    watts = profile.compute.watts_per_core
    return Prediction(
        bytes=round(facts.bytes * expected.bytes),
        download_bytes=round(facts.bytes * 0.92 * expected.download),  # float weights under zstd, as measured on trained networks
        latency_seconds=seconds,
        memory_bytes=round((facts.weight_bytes + facts.peak_activation_bytes) * expected.memory),
        energy_joules=None if seconds is None or watts is None else seconds * profile.threads * watts,
    )


def corrected(expected: Ratios, original: Measurement) -> Prediction:
    """What a pipeline should cost, now that the float original was measured: its figures times what is expected."""
    sent, peak, latency, joules = (
        original.download_bytes,
        original.peak_memory_bytes,
        original.latency,
        original.energy.joules,
    )
    return Prediction(
        bytes=round(original.bytes * expected.bytes),
        download_bytes=None if sent is None else round(sent * expected.download),
        latency_seconds=None if latency is None else latency.p50 * expected.latency,
        memory_bytes=None if peak is None else round(peak * expected.memory),
        energy_joules=None if joules is None else joules * expected.latency,
    )


def compared(predicted: Prediction, measured: Measurement) -> dict[str, float | None]:
    """Each prediction in the report's units, and its error beside what was measured: predicted / measured - 1, so that above 0
    is foretold too much. None where either is unknown."""
    latency = measured.latency.p50 if measured.latency else None
    figures = {
        "bytes": ("bytes", predicted.bytes, measured.bytes, 1),
        "download": ("download_bytes", predicted.download_bytes, measured.download_bytes, 1),
        "latency": ("latency_ms", predicted.latency_seconds, latency, 1000),
        "memory": ("peak_memory_bytes", predicted.memory_bytes, measured.peak_memory_bytes, 1),
        "energy": ("energy_mj", predicted.energy_joules, measured.energy.joules, 1000),
    }
    told: dict[str, float | None] = {}
    for name, (field, guess, real, scale) in figures.items():
        told[field] = None if guess is None else round(guess * scale, 6)
        told[f"{name}_error"] = None if guess is None or not real else round(guess / real - 1, 4)
    return told


def on_device(measured: Measurement, facts: ModelFacts, profile: DeviceProfileSpec) -> Measurement:
    """A measurement made here as it should be on the device: latency by the roofline times the measured ratio to float, where
    the profile declares its arithmetic; and energy from processor time and declared watts."""
    here = measured.latency
    if here is None:
        return measured
    base, watts = float_seconds(facts, profile), profile.compute.watts_per_core
    latency, busy = here, here.cpu_seconds
    if base is not None and here.ratio_to_float is not None:
        p50 = base * here.ratio_to_float
        latency = Latency(p50, p50 * here.p95 / here.p50, Source.PREDICTED.value, here.ratio_to_float)
        busy = p50 * profile.threads
    energy = Energy() if watts is None or busy is None else Energy(busy * watts, ESTIMATE)
    return replace(measured, latency=latency, energy=energy)


def excesses(measured: Measurement, profile: DeviceProfileSpec, max_drop: float) -> tuple[Excess, ...]:
    """Every limit that a measurement does not keep; what was not measured is not judged."""
    found = [_quality(measured, max_drop)]
    found.append(_over("storage", measured.bytes, profile.storage, in_bytes))
    found.append(_over("memory", measured.peak_memory_bytes, profile.memory, in_bytes))
    if measured.latency is not None:
        found.append(_over("latency_p95", measured.latency.p95, profile.latency_p95, _seconds))
        if profile.rate is not None:
            found.append(_over("rate", measured.latency.p50, 1 / profile.rate, _seconds))
        found.append(_over("power_budget", mean_watts(measured, profile), profile.power_budget, _watts))
    return tuple(item for item in found if item is not None)


def predicted_excesses(predicted: Prediction, profile: DeviceProfileSpec, margin: float = 1.5) -> tuple[Excess, ...]:
    """Limits that a prediction misses by more than ``margin``, which allows for the prediction's own error."""
    measured = Measurement(
        bytes=predicted.bytes or 0,
        peak_memory_bytes=predicted.memory_bytes,
        latency=None if predicted.latency_seconds is None else Latency(predicted.latency_seconds, predicted.latency_seconds),
        energy=Energy(predicted.energy_joules, ESTIMATE if predicted.energy_joules is not None else None),
    )
    return tuple(item for item in excesses(measured, profile, max_drop=1.0) if item.times > margin)


def mean_watts(measured: Measurement, profile: DeviceProfileSpec) -> float | None:
    """Mean power at the asked rate (continuous without one); None when energy or latency is unknown."""
    if measured.energy.joules is None or measured.latency is None:
        return None
    rate = profile.rate if profile.rate is not None else 1 / measured.latency.p50
    return measured.energy.joules * rate


def _quality(measured: Measurement, max_drop: float) -> Excess | None:
    quality = measured.quality
    if quality is None or quality.drop <= max_drop + 1e-9:
        return None
    words = f"{quality.metric} drops by {quality.drop:.4f}, {quality.drop - max_drop:.4f} over the {max_drop:g} allowed"
    return Excess("quality", 1 + (quality.drop - max_drop) / max(max_drop, 0.001), words)


def _over(constraint: str, value: float | None, limit: float | None, show: object) -> Excess | None:
    if value is None or limit is None or value <= limit:
        return None
    text = show if callable(show) else str
    times = value / limit
    return Excess(constraint, times, f"{constraint} {text(value)} is {times:.2f} times the {text(limit)} allowed")


def in_bytes(value: float) -> str:
    """A number of bytes as people read it."""
    for unit, worth in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if value >= worth:
            return f"{value / worth:.4g}{unit}"
    return f"{value:g}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g}ms" if value < 1 else SECONDS.format(round(value, 3))


def _watts(value: float) -> str:
    return WATTS.format(float(f"{value:.3g}"))
