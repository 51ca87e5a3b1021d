"""The fleet at a glance, over a real store and ledger."""

from __future__ import annotations

import pytest

from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.overview import Overview, figures
from edge_compress.delivery.recent import Recent, Subject
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.gates import Finding
from edge_compress.domain.overview import Figures, RolloutOverview
from edge_compress.domain.rollout import RolloutSpec, RolloutStatus
from edge_compress.domain.schema import encode
from edge_compress.domain.session import LATENCY_BOUNDS, EnergyReading, UsageReport
from edge_compress.store.interface import UsageTotals
from edge_compress.store.sqlite import SqliteStore
from tests.unit.delivery.makers import apply, artifact, deployment, hello, model, profile, publish


def report(count: int, version: str = "v1", cohort: str = "", boot: str = "b1") -> UsageReport:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    counts[10] = count
    energy = (EnergyReading("rapl", "package", count * 0.5),)
    return UsageReport(boot, "vision", version, cohort, {"ok": count, "error": 0}, LATENCY_BOUNDS, tuple(counts), 1.0, energy)


async def test_the_last_minute_is_what_came_since_the_oldest_tick(store: SqliteStore) -> None:
    now = [0.0]
    ledger = UsageLedger(store)
    recent = Recent(ledger, lambda: now[0])
    assert recent.usage() == (0.0, {})
    await ledger.accept("cam-1", "cam", [report(100)])
    recent.tick()
    await ledger.accept("cam-1", "cam", [report(130), report(7, cohort="canary"), report(5, version="v2")])
    now[0] = 10.0
    seconds, usage = recent.usage()
    assert seconds == 10.0
    done = {subject.version: totals.inferences["ok"] for subject, totals in usage.items()}
    assert done == {"v1": 37, "v2": 5}
    for now[0] in (20.0, 30.0, 40.0, 50.0, 60.0, 70.0):
        recent.tick()
    now[0] = 75.0
    assert recent.usage()[0] == 55.0
    assert recent.usage()[1][Subject("cam", "vision", "v1")].inferences["ok"] == 0


def test_figures_are_by_second_and_absent_where_nothing_was_done() -> None:
    done = UsageTotals({"ok": 90, "error": 10}, (0.1, 0.2), (100, 0, 0), 1.0, {"rapl/package": 5.0})
    assert figures(done, 10.0) == Figures(10.0, 1.0, pytest.approx(0.095), 0.05, "rapl")
    assert figures(UsageTotals({"ok": 0}, (0.1,), (0, 0)), 10.0) == figures(done, 0.0) == Figures()


async def test_devices_are_counted_by_profile_state_and_version(store: SqliteStore) -> None:
    apply(store, profile(), profile("mcu"))
    made = publish(store, artifact("first"))
    ledger = UsageLedger(store)
    fleet = Fleet(store, ledger)
    runs = {"current_sha256": made.sha256, "assignment": "vision-1.a", "state": "Committed"}
    await fleet.join(hello("cam-1", **runs))
    await fleet.leave(await fleet.join(hello("cam-2", **runs)))
    await fleet.join(hello("mcu-1", "mcu"))
    cam, mcu = Overview(store, fleet.census, ledger).read().profiles
    assert (cam.profile, cam.devices) == ("cam", {"Committed": 1, "Disconnected": 1})
    assert [(one.model, one.version, one.devices) for one in cam.versions] == [("vision", made.version, 2)]
    assert (mcu.profile, mcu.devices, mcu.versions) == ("mcu", {"Idle": 1}, ())


def test_rollouts_under_way_have_their_step_and_the_worst_verdict(store: SqliteStore) -> None:
    apply(store, profile(), model(), deployment(rollout={"steps": ["10%", "100%"]}))
    gates = (Finding("latency_p95", "Pass", ""), Finding("error_ratio", "Fail", ""))
    for name, state in (("vision-1", "Superseded"), ("vision-2", "Completed"), ("vision-3", "Progressing")):
        status = RolloutStatus(state, 1, 0.5, "why", {"Committed": 3}, gates=gates)
        store.apply("Rollout", name, labels={}, spec=encode(RolloutSpec("vision", "vision")), status=encode(status))
    ledger = UsageLedger(store)
    overview = Overview(store, Fleet(store, ledger).census, ledger)
    assert overview.read().rollouts == (RolloutOverview("vision-3", "Progressing", 2, 2, 0.5, "Fail", "why", {"Committed": 3}),)
    store.delete("Deployment", "vision")
    assert overview.read().rollouts[0].steps == 0
