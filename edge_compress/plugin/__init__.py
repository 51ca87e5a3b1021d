"""The public API for plugin authors. What is not listed here is private and may change."""

from edge_compress.domain.artifact import Artifact
from edge_compress.domain.gates import ALPHA, FEWEST_REPORTS, Finding, Series, Window, beyond, means, share_bounds
from edge_compress.domain.gates import Verdict as GateVerdict
from edge_compress.domain.histogram import quantile
from edge_compress.domain.model import DataFacts, LayerFacts, ModelFacts, TensorFacts
from edge_compress.domain.schema import spec_field as param
from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.domain.spec import DeviceProfileSpec, Gate
from edge_compress.errors import InvalidData, InvalidSpec
from edge_compress.plugin.architecture import Architecture, Cost, ImageTask
from edge_compress.plugin.gate import GateMetric
from edge_compress.plugin.hookspecs import hookimpl
from edge_compress.plugin.quality import QualityMetric
from edge_compress.plugin.registry import architectures
from edge_compress.plugin.strategy import (
    STAGES,
    Batch,
    Beginning,
    Context,
    Ensures,
    Expectation,
    Limits,
    Requires,
    Strategy,
    Support,
)
from edge_compress.plugin.target import Runner, Target

__all__ = [
    "ALPHA",
    "FEWEST_REPORTS",
    "LATENCY_BOUNDS",
    "STAGES",
    "Architecture",
    "Artifact",
    "Batch",
    "Beginning",
    "Context",
    "Cost",
    "DataFacts",
    "DeviceProfileSpec",
    "Ensures",
    "Expectation",
    "Finding",
    "Gate",
    "GateMetric",
    "GateVerdict",
    "ImageTask",
    "InvalidData",
    "InvalidSpec",
    "LayerFacts",
    "Limits",
    "ModelFacts",
    "QualityMetric",
    "Requires",
    "Runner",
    "Series",
    "Strategy",
    "Support",
    "Target",
    "TensorFacts",
    "Window",
    "architectures",
    "beyond",
    "hookimpl",
    "means",
    "param",
    "quantile",
    "share_bounds",
]
