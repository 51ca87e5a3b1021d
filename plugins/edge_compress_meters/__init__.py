"""The energy meters that come with the product: rapl, ina, hwmon, battery, nvml, external and estimate.

This is loaded on devices: standard library only, and what is large of it when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_compress.plugin import EnergyMeter, hookimpl
from edge_compress_meters.battery import Battery
from edge_compress_meters.estimate import Estimate
from edge_compress_meters.external import External
from edge_compress_meters.nvml import Nvml
from edge_compress_meters.rapl import Rapl
from edge_compress_meters.sensors import Hwmon, Ina


@hookimpl
def edge_compress_register_energy_meters() -> Sequence[EnergyMeter]:
    """All meters of this plugin."""
    return [Rapl(), Ina(), Hwmon(), Battery(), Nvml(), External(), Estimate()]
