"""The ledger of what devices report: running totals by boot, kept durably, summed for the metrics and read out per device.

A batch is acknowledged only once it is stored, and only what is stored is counted, so that a counter neither doubles nor falls
when the server is killed. Writes outlive the session that caused them, so that what is stored and what is remembered never
differ. Devices are not trusted: what makes no sense is dropped and counted by reason. Old boots of a device are folded into one
row, so that a device takes bounded room however often it restarts. The sums themselves are ``totals``'s business, their shape
for Prometheus is ``metrics``'s.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from edge_compress.delivery.device_totals import DeviceTotals
from edge_compress.delivery.histories import Histories
from edge_compress.delivery.totals import Total, energy_per_inference, folded, joined, totals_of
from edge_compress.domain.histogram import quantile
from edge_compress.domain.session import UsageReport
from edge_compress.errors import InvalidInput
from edge_compress.store.interface import UsageKey, UsageStore, UsageTotals

FOLDED = ""
"""boot of the row that stands for old boots"""
_BOOTS_KEPT = 4
_MOST_SERIES = 256


@dataclass(frozen=True)
class Series:
    """What all devices of a profile made of one artifact: the labels of metrics and the sum."""

    profile: str
    model: str
    version: str
    cohort: str
    totals: UsageTotals


@dataclass(frozen=True)
class DeviceUsage:
    """What one device made of one artifact. ``None`` where nothing is known: seconds, joules."""

    inferences: int = 0
    p95_seconds: float | None = None
    joules_per_inference: float | None = None
    energy_source: str = ""


class UsageLedger:
    """Running totals of every device. Call it on one event loop; ``series`` and ``load`` from any thread."""

    def __init__(
        self,
        store: UsageStore,
        *,
        dropped: Callable[[str, int], None] = lambda reason, count: None,
        by_device: DeviceTotals | None = None,
    ) -> None:
        self._store = store
        self._dropped = dropped
        self._by_device = by_device
        self.histories = Histories()
        """the last hour of each device"""
        self._rows: dict[str, dict[UsageKey, UsageTotals]] = defaultdict(dict)
        self._sums: dict[UsageKey, Total] = defaultdict(Total)
        self._pending: dict[UsageKey, UsageTotals] = {}
        self._storing: dict[UsageKey, UsageTotals] = {}
        self._writing = asyncio.Lock()
        self._reading = threading.Lock()

    def load(self) -> None:
        """Take up what was stored before; blocks."""
        self._settle(self._store.usage(), live=False)

    async def accept(self, device: str, profile: str, reports: Sequence[UsageReport]) -> None:
        """Count reports of ``device``; returns when they are durable. What the store raises comes through."""
        keys: set[UsageKey] = set()
        for report in reports:
            key = UsageKey(device, report.boot_id, profile, report.model, report.version, report.cohort)
            if reason := self._refusal(key, keys):
                self._dropped(reason, 1)
                continue
            try:
                row = joined(self._known(key), totals_of(report))
            except InvalidInput:
                self._dropped("invalid", 1)
                continue
            if row != self._rows[device].get(key):
                self._pending[key] = row
                keys.add(key)
        await asyncio.shield(self._write(keys))

    async def forget(self, device: str) -> None:
        """Drop a device's rows; what it counted stays in the sums, for a counter must not fall."""
        await asyncio.shield(self._retire(device))

    def device(self, device: str, model: str, version: str) -> DeviceUsage:
        """What a device made of one artifact, all boots together."""
        total = Total()
        for key, row in self._rows.get(device, {}).items():
            if (key.model, key.version) == (model, version):
                total.replace(None, row)
        row = total.frozen()
        joules, source = energy_per_inference(row) or (None, "")
        return DeviceUsage(sum(row.inferences.values()), quantile(row.bucket_bounds, row.bucket_counts, 0.95), joules, source)

    def rows(self, device: str) -> dict[UsageKey, UsageTotals]:
        """A device's rows as they are stored; from any thread."""
        with self._reading:
            return dict(self._rows.get(device, {}))

    def of_devices(self) -> list[tuple[UsageKey, UsageTotals]]:
        """The rows of every device that is still known; from any thread."""
        with self._reading:
            return [item for device, rows in self._rows.items() if device for item in rows.items()]

    def series(self) -> list[Series]:
        """The sums by profile, model, version and cohort, in that order; from any thread."""
        with self._reading:
            sums = [(key, total.frozen()) for key, total in self._sums.items()]
        made = [Series(key.profile, key.model, key.version, key.cohort, totals) for key, totals in sums]
        return sorted(made, key=lambda one: (one.profile, one.model, one.version, one.cohort))

    def _known(self, key: UsageKey) -> UsageTotals | None:
        return self._pending.get(key) or self._storing.get(key) or self._rows[key.device].get(key)

    def _refusal(self, key: UsageKey, others: Iterable[UsageKey]) -> str:
        """Why a report is not counted; empty when it is. ``others`` are the device's keys that are on their way."""
        rows = self._rows[key.device]
        if key in rows or key in self._pending:
            return ""
        kept = rows.get(replace(key, boot_id=FOLDED))
        retired = self._rows[""].get(_series(key))
        if (kept and key.boot_id in kept.folded) or (retired and f"{key.device}/{key.boot_id}" in retired.folded):
            return "stale"
        series = {_series(other) for other in (*rows, *others)}
        return "series" if len(series) >= _MOST_SERIES and _series(key) not in series else ""

    async def _write(self, keys: Iterable[UsageKey]) -> None:
        """Store what is pending, with whatever others wait for in the same transaction; returns when ``keys`` are stored."""
        async with self._writing:
            if not any(key in self._pending for key in keys):
                return
            batch, self._pending = self._pending, {}
            self._storing = batch
            try:
                await asyncio.to_thread(self._store.put_usage, list(batch.items()))
            except BaseException:
                # Whoever else waits for these rows must not take them for stored: they try again, and fail or succeed themselves.
                self._pending = {**batch, **self._pending}
                raise
            finally:
                self._storing = {}
            self._settle(batch.items(), live=True)
            for device in {key.device for key in batch}:
                await self._fold_boots(device)

    async def _fold_boots(self, device: str) -> None:
        boots: dict[UsageKey, list[UsageKey]] = defaultdict(list)
        for key in self._rows[device]:
            if key.boot_id != FOLDED:
                boots[_series(key)].append(key)
        kept: dict[UsageKey, UsageTotals] = {}
        gone: list[UsageKey] = []
        for keys in boots.values():
            old = keys[:-_BOOTS_KEPT]
            if old:
                into = replace(old[0], boot_id=FOLDED)
                kept[into] = folded(self._rows[device].get(into), [(key.boot_id, self._rows[device][key]) for key in old])
                gone += old
        if gone:
            await self._fold(kept, gone)

    async def _retire(self, device: str) -> None:
        async with self._writing:
            rows = dict(self._rows.get(device, {}))
            kept: dict[UsageKey, UsageTotals] = {}
            for key, row in rows.items():
                retired = replace(key, device="", boot_id=FOLDED)
                into = kept.get(retired) or self._rows[""].get(retired)
                kept[retired] = folded(into, [(f"{device}/{key.boot_id}", row)])
            if rows:
                await self._fold(kept, list(rows))
            self.histories.forget(device)
            if self._by_device is not None:
                self._by_device.forget(device)

    async def _fold(self, kept: dict[UsageKey, UsageTotals], gone: Sequence[UsageKey]) -> None:
        """Replace rows by others that add up to the same, durably first. The sums need no change."""
        await asyncio.to_thread(self._store.fold_usage, list(kept.items()), gone)
        with self._reading:
            for key in gone:
                self._rows[key.device].pop(key, None)
            for key, row in kept.items():
                self._rows[key.device][key] = row

    def _settle(self, batch: Iterable[tuple[UsageKey, UsageTotals]], *, live: bool) -> None:
        with self._reading:
            for key, row in batch:
                rows = self._rows[key.device]
                before = rows.pop(key, None)
                self._sums[_series(key)].replace(before, row)
                if self._by_device is not None:
                    self._by_device.replace(key, before, row)
                if live:
                    self.histories.add(key.device, before, row)
                rows[key] = row  # at the end: the boots heard of last are the ones kept


def _series(key: UsageKey) -> UsageKey:
    return replace(key, device="", boot_id=FOLDED)
