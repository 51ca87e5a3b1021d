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
    settling_seconds: float = 1.0
    """for each of the last contenders, timed side by side"""
    golden_samples: int = 4
    allow_pt2: bool = False
    """whether .pt2 archives are lifted; reading one runs operators that a stranger chose"""
    training_seconds: float = 300.0
    """for a step that trains, where neither a budget nor a recipe asks for it"""

    def unasked_training(self, by_recipe: bool) -> float:
        """Seconds for a step that trains without a budget: all that a step may take where a recipe asks for it."""
        return self.step.seconds if by_recipe else min(self.training_seconds, 0.75 * self.step.seconds)
