"""Limits of the worker. What they are enforced with is left to ``spawn``."""

from __future__ import annotations

from dataclasses import dataclass

from edge_compress.worker.spawn import ChildLimits


@dataclass(frozen=True)
class WorkerSettings:
    """Limits of the worker. Seconds and bytes."""

    step: ChildLimits = ChildLimits()
    check: ChildLimits = ChildLimits(seconds=120)
    propose: ChildLimits = ChildLimits(seconds=30, memory_bytes=2 * 2**30)
    max_model_bytes: int = 2 * 2**30
    timing_seconds: float = 0.4
    golden_samples: int = 4
    allow_pt2: bool = False
    """whether .pt2 archives are lifted; reading one runs operators that a stranger chose"""
