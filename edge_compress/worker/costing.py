"""From what was measured or predicted here to what the devices of a pair's profile would report.

The arithmetic is ``domain.cost``'s and ``domain.calibration``'s; this knows the pair, and what its strategies compute in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edge_compress.domain.artifact import AppliedStep, Measurement
from edge_compress.domain.calibration import Corrections, arithmetic, as_reported, foretold
from edge_compress.domain.cost import on_device
from edge_compress.domain.model import ModelFacts
from edge_compress.domain.plan import Prediction
from edge_compress.plugin.registry import Registry
from edge_compress.worker.inputs import PairRequest


class DeviceCosts:
    """Of one pair. ``facts``: of its model."""

    def __init__(self, request: PairRequest, facts: ModelFacts, registry: Registry) -> None:
        self._facts, self._profile, self._corrections = facts, request.profile.spec, request.corrections
        self._needs = precisions_of(registry)

    @property
    def learned(self) -> bool:
        """Whether anything is corrected by reports."""
        return self._corrections != Corrections()

    def plain(self, measured: Measurement) -> Measurement:
        """As it should be on the devices by what their profile declares."""
        return on_device(measured, self._facts, self._profile)

    def reported(self, measured: Measurement, steps: Iterable[AppliedStep] = ()) -> Measurement:
        """As they would report it; ``steps``: how it was made."""
        return as_reported(self.plain(measured), self._corrections, arithmetic(steps, self._needs), self._profile.threads)

    def foretold(self, predicted: Prediction, steps: Iterable[AppliedStep]) -> Prediction:
        """A prediction by what the profile declares, as they would report it."""
        return foretold(predicted, self._corrections, arithmetic(steps, self._needs), self._profile.threads)


def precisions_of(registry: Registry) -> Mapping[str, Sequence[str]]:
    """Strategy -> the precisions that it needs."""
    return {name: strategy.requires.precision for name, strategy in registry.strategies.items()}
