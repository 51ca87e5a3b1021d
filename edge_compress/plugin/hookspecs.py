"""Every hook a plugin may implement. Entry point group: ``edge_compress``."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from edge_compress.domain.artifact import Artifact
from edge_compress.plugin.architecture import Architecture
from edge_compress.plugin.gate import GateMetric
from edge_compress.plugin.marker import PROJECT, hookimpl
from edge_compress.plugin.meter import EnergyMeter
from edge_compress.plugin.quality import QualityMetric
from edge_compress.plugin.strategy import Strategy
from edge_compress.plugin.target import Target

__all__ = ["PROJECT", "hookimpl"]
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def edge_compress_register_strategies() -> Sequence[Strategy]:  # type: ignore[type-arg, empty-body]  # each has its own Params; a spec has no body
    """Strategies this plugin adds, as instances."""


@hookspec
def edge_compress_register_targets() -> Sequence[Target]:  # type: ignore[empty-body]  # a spec has no body
    """Targets this plugin adds, as instances."""


@hookspec
def edge_compress_register_quality_metrics() -> Sequence[QualityMetric]:  # type: ignore[empty-body]  # a spec has no body
    """Quality metrics this plugin adds, as instances."""


@hookspec
def edge_compress_register_architectures() -> Sequence[Architecture]:  # type: ignore[empty-body]  # a spec has no body
    """Compact architectures this plugin adds, as instances: students for ``distil.student``."""


@hookspec
def edge_compress_register_gate_metrics() -> Sequence[GateMetric]:  # type: ignore[empty-body]  # a spec has no body
    """Gate metrics this plugin adds, as instances: what a rollout's ``gates`` may compare."""


@hookspec
def edge_compress_register_energy_meters() -> Sequence[EnergyMeter]:  # type: ignore[empty-body]  # a spec has no body
    """Energy meters this plugin adds, as instances. Called on devices, where torch, onnx, numpy and pluggy are better not loaded.
    A device finds it only where the module of the entry point has this name in its text."""


@hookspec
def edge_compress_artifact_published(artifact: Artifact) -> None:
    """An artifact was published and may be delivered. Called in the server; an error is logged and changes nothing."""


@hookspec
def edge_compress_rollout_moved(rollout: str, old: str, new: str, why: str) -> None:
    """A rollout changed its state. Called in the server after the change is durable; an error is logged."""
