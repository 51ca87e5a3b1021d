"""Totals of single devices: what the ledger holds of each, whatever boots, repeats and restarts there were."""

from __future__ import annotations

from edge_compress.delivery.device_totals import DeviceTotals
from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.observed import DeviceBoard
from edge_compress.delivery.usage import UsageLedger
from edge_compress.device_metrics import DeviceFigures, DeviceMetrics
from edge_compress.domain.session import LATENCY_BOUNDS, EnergyReading, UsageReport
from edge_compress.store.sqlite import SqliteStore
from tests.unit.delivery.makers import apply, artifact, hello, profile, publish


def report(count: int, boot: str = "b1", version: str = "v1") -> UsageReport:
    counts = (count, *[0] * len(LATENCY_BOUNDS))
    energy = (EnergyReading("estimate", "process", count * 0.1),)
    return UsageReport(boot, "vision", version, "", {"ok": count}, LATENCY_BOUNDS, counts, count * 0.003, energy)


async def test_boots_add_up_and_repeats_do_not(store: SqliteStore) -> None:
    totals = DeviceTotals()
    ledger = UsageLedger(store, by_device=totals)
    for boot in range(8):
        for count in (1, 3, 2):
            await ledger.accept("cam-1", "cam", [report(count, f"b{boot}")])
    await ledger.accept("cam-2", "cam", [report(5)])
    found = totals.of("cam-1", "cam", "vision", "v1")
    assert found == ({"ok": 24}, 72_000, {"estimate/process": 2_400_000})
    assert totals.of("cam-1", "cam", "vision", "v2") is None
    again = DeviceTotals()
    UsageLedger(store, by_device=again).load()
    assert again.of("cam-1", "cam", "vision", "v1") == found


class Told(DeviceMetrics):
    """Keeps what it was told last of each device."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.last: dict[str, DeviceFigures] = {}

    def show(self, device: DeviceFigures) -> None:
        self.last[device.device] = device
        super().show(device)

    def forget(self, name: str) -> None:
        self.last.pop(name, None)
        super().forget(name)


async def test_devices_are_shown_as_they_come_report_leave_and_are_forgotten(store: SqliteStore) -> None:
    apply(store, profile())
    made = publish(store, artifact("first"))
    told = Told()
    board = DeviceBoard(told)
    ledger = UsageLedger(store, by_device=board.totals)
    fleet = Fleet(store, ledger)
    board.follow(fleet)
    session = await fleet.join(hello(current_sha256=made.sha256, assignment="vision-1.a", state="Committed"))
    assert told.last["cam-1"].connected
    assert fleet.states() == {"Committed": 1}
    await fleet.reported(session, 1, [report(4, version=made.version)])
    total = told.last["cam-1"].total
    assert total is not None
    assert total.inferences == {"ok": 4}
    await fleet.leave(session)
    assert (told.last["cam-1"].connected, fleet.states()) == (False, {"Disconnected": 1})
    await fleet.forget("cam-1")
    assert (told.last, fleet.states(), board.totals.of("cam-1", "cam", "vision", "v1")) == ({}, {}, None)
