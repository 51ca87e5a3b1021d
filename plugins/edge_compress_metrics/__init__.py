"""The metrics that come with the product: of quality top1, top5, agreement, cosine, mse and auc; for gates latency_p95,
energy_per_inference and error_ratio."""

from __future__ import annotations

from collections.abc import Sequence

from edge_compress.plugin import GateMetric, QualityMetric, hookimpl
from edge_compress_metrics.areas import Auc
from edge_compress_metrics.classes import Agreement, Top1, Top5
from edge_compress_metrics.distances import Cosine, MeanSquaredError
from edge_compress_metrics.gates import EnergyPerInference, ErrorRatio, LatencyP95


@hookimpl
def edge_compress_register_quality_metrics() -> Sequence[QualityMetric]:
    """All metrics of this plugin."""
    return [Top1(), Top5(), Agreement(), Cosine(), MeanSquaredError(), Auc()]


@hookimpl
def edge_compress_register_gate_metrics() -> Sequence[GateMetric]:
    """All gate metrics of this plugin."""
    return [LatencyP95(), EnergyPerInference(), ErrorRatio()]
