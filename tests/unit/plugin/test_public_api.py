"""The public surface of plugin authors is these names and hooks; whoever changes it changes this list too."""

from __future__ import annotations

import pluggy

from edge_compress import plugin
from edge_compress.plugin import hookspecs

NAMES = {
    *("Architecture", "Artifact", "Batch", "Beginning", "Context", "Cost", "DataFacts", "DeviceProfileSpec", "Ensures"),
    *(
        "Expectation",
        "ImageTask",
        "InvalidData",
        "InvalidSpec",
        "LayerFacts",
        "Limits",
        "ModelFacts",
        "QualityMetric",
        "Requires",
        "Runner",
    ),
    *("ALPHA", "FEWEST_REPORTS", "Finding", "Gate", "GateMetric", "GateVerdict", "LATENCY_BOUNDS", "Series", "Window"),
    *("EnergyCounter", "EnergyMeter", "MeterSite", "PowerIntegral"),
    *("beyond", "means", "quantile", "share_bounds"),
    *("STAGES", "Strategy", "Support", "Target", "TensorFacts", "architectures", "hookimpl", "param"),
}
HOOKS = {
    "edge_compress_register_strategies",
    "edge_compress_register_targets",
    "edge_compress_register_quality_metrics",
    "edge_compress_register_architectures",
    "edge_compress_register_gate_metrics",
    "edge_compress_register_energy_meters",
    "edge_compress_artifact_published",
    "edge_compress_rollout_moved",
}


def test_exported_names_are_these_and_exist() -> None:
    assert set(plugin.__all__) == NAMES
    assert len(plugin.__all__) == len(NAMES)
    assert all(getattr(plugin, name) is not None for name in NAMES)


def test_every_export_says_what_it_is_for() -> None:
    assert [name for name in NAMES - {"STAGES", "param", "hookimpl"} if not getattr(plugin, name).__doc__] == []


def test_hooks_are_these() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    assert {name for name in dir(hookspecs) if manager.parse_hookspec_opts(hookspecs, name)} == HOOKS
