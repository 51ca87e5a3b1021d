"""The quality metrics that come with the product: top1, top5, agreement, cosine, mse and auc."""

from __future__ import annotations

from collections.abc import Sequence

from edge_compress.plugin import QualityMetric, hookimpl
from edge_compress_metrics.areas import Auc
from edge_compress_metrics.classes import Agreement, Top1, Top5
from edge_compress_metrics.distances import Cosine, MeanSquaredError


@hookimpl
def edge_compress_register_quality_metrics() -> Sequence[QualityMetric]:
    """All metrics of this plugin."""
    return [Top1(), Top5(), Agreement(), Cosine(), MeanSquaredError(), Auc()]
