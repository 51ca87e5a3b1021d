"""A meter that a test plays: it shows the joules and raises the errors that it is told to."""

from __future__ import annotations

from edge_compress.plugin import EnergyCounter, EnergyMeter, MeterSite


class Played(EnergyMeter, EnergyCounter):
    """A meter and its one counter."""

    def __init__(self, name: str = "played", source: str = "external", *, processor: str = "cpu", quick: bool = False) -> None:
        self.name, self.source, self.processor = name, source, processor  # type: ignore[misc]
        self.joules, self.failure, self.missing = 0.0, None, None
        self.opened = self.closed = 0
        self.resolution_seconds, self.sample_seconds = (0.001, 30.0) if quick else (0.1, 1.0)

    failure: Exception | None
    missing: Exception | None

    def open(self, site: MeterSite) -> EnergyCounter:
        if self.missing is not None:
            raise self.missing
        self.opened += 1
        return self

    def read(self) -> float:
        if self.failure is not None:
            raise self.failure
        return self.joules

    def close(self) -> None:
        self.closed += 1
