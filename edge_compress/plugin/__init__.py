"""The public API for plugin authors. What is not listed here is private and may change.

Each name is loaded when it is first asked for: a plugin with a meter for devices must not cost them what strategies need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_compress.domain.artifact import Artifact
    from edge_compress.domain.energy import MeterSite
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
    from edge_compress.plugin.marker import hookimpl
    from edge_compress.plugin.meter import EnergyCounter, EnergyMeter, PowerIntegral
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
    "EnergyCounter",
    "EnergyMeter",
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
    "MeterSite",
    "ModelFacts",
    "PowerIntegral",
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

_HOMES = {
    "edge_compress.domain.artifact": ["Artifact"],
    "edge_compress.domain.energy": ["MeterSite"],
    "edge_compress.domain.gates": [
        "ALPHA",
        "FEWEST_REPORTS",
        "Finding",
        "Series",
        "Window",
        "beyond",
        "means",
        "share_bounds",
        "GateVerdict",
    ],
    "edge_compress.domain.histogram": ["quantile"],
    "edge_compress.domain.model": ["DataFacts", "LayerFacts", "ModelFacts", "TensorFacts"],
    "edge_compress.domain.schema": ["param"],
    "edge_compress.domain.session": ["LATENCY_BOUNDS"],
    "edge_compress.domain.spec": ["DeviceProfileSpec", "Gate"],
    "edge_compress.errors": ["InvalidData", "InvalidSpec"],
    "edge_compress.plugin.architecture": ["Architecture", "Cost", "ImageTask"],
    "edge_compress.plugin.gate": ["GateMetric"],
    "edge_compress.plugin.marker": ["hookimpl"],
    "edge_compress.plugin.meter": ["EnergyCounter", "EnergyMeter", "PowerIntegral"],
    "edge_compress.plugin.quality": ["QualityMetric"],
    "edge_compress.plugin.registry": ["architectures"],
    "edge_compress.plugin.strategy": [
        "STAGES",
        "Batch",
        "Beginning",
        "Context",
        "Ensures",
        "Expectation",
        "Limits",
        "Requires",
        "Strategy",
        "Support",
    ],
    "edge_compress.plugin.target": ["Runner", "Target"],
}
"""module -> the names that it is asked for"""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_OTHER_NAMES = {"GateVerdict": "Verdict", "param": "spec_field"}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME_OF[name]), _OTHER_NAMES.get(name, name))
    globals()[name] = found
    return found
