"""NVIDIA graphics cards, by the driver's own library. Source: NVIDIA's NVML API Reference (nvmlDeviceGetTotalEnergyConsumption).

No package is needed: the library comes with the driver and is loaded by name.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from typing import Any

from edge_compress.plugin import EnergyCounter, EnergyMeter, MeterSite

_LIBRARY = "libnvidia-ml.so.1"


class Nvml(EnergyMeter):
    """NVIDIA graphics cards, by the driver's energy counter (Volta or newer)."""

    name = source = "nvml"
    processor = "gpu"

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._load = load

    def open(self, site: MeterSite) -> EnergyCounter:
        """Raises OSError where there is no driver, no card, or one that counts no energy."""
        try:
            library = self._load(_LIBRARY)
        except OSError:
            raise FileNotFoundError(errno.ENOENT, f"no NVIDIA driver ({_LIBRARY})") from None
        return _Cards(library)


class _Cards(EnergyCounter):
    scope, shared = "gpu", True
    resolution_joules, resolution_seconds, sample_seconds, uncertainty = 0.001, 0.1, 1.0, 0.05

    def __init__(self, library: Any) -> None:
        self._library = library
        self._call("nvmlInit_v2")
        try:
            self._cards = [self._card(index) for index in range(self._count())]
            self._last, self._millijoules = self._now(), 0
            if not self._cards:
                raise OSError("NVML knows no card")
        except OSError:
            self.close()
            raise

    def read(self) -> float:
        """Joules of all cards. A counter that fell was begun anew by a driver that was loaded again."""
        now = self._now()
        self._millijoules += sum(new - old if new >= old else new for old, new in zip(self._last, now, strict=True))
        self._last = now
        return self._millijoules / 1e3

    def close(self) -> None:
        """Let the library go."""
        self._library.nvmlShutdown()

    def _count(self) -> int:
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return count.value

    def _card(self, index: int) -> ctypes.c_void_p:
        card = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(card))
        return card

    def _now(self) -> list[int]:
        found = []
        for card in self._cards:
            millijoules = ctypes.c_ulonglong()
            self._call("nvmlDeviceGetTotalEnergyConsumption", card, ctypes.byref(millijoules))
            found.append(millijoules.value)
        return found

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise OSError(f"NVML: {name} failed with code {code}")
