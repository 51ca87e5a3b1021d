"""Looking at what devices report: corrections by profile, restarts, bounded room, and profiles that go."""

from __future__ import annotations

import pytest

from edge_compress.delivery.calibrator import KIND, Calibrator, corrections_of
from edge_compress.domain.artifact import AppliedStep, CandidateResult, Energy, Latency, Measurement, Outcome
from edge_compress.domain.calibration import Corrections
from edge_compress.domain.schema import encode
from edge_compress.domain.session import LATENCY_BOUNDS
from edge_compress.store.interface import UsageKey, UsageTotals
from edge_compress.store.sqlite import SqliteStore
from tests.unit.delivery.makers import apply, profile, sha

STEPS = (AppliedStep("quantize.static"),)


def outcome(uncorrected: bool = False) -> Outcome:
    """A file that is foretold to take 10 ms and 0.1 J."""
    plain = Measurement(sha("file"), 100, latency=Latency(0.01, 0.012), peak_memory_bytes=1000, energy=Energy(0.1, "estimate"))
    other = Measurement(sha("file"), 100, latency=Latency(0.5, 0.6), peak_memory_bytes=9, energy=Energy(9.0, "estimate"))
    chosen = CandidateResult(STEPS, "chosen", measurement=plain)
    if uncorrected:
        chosen = CandidateResult(STEPS, "chosen", measurement=other, uncorrected=plain)
    return Outcome("vision", "cam", "FEASIBLE", None, None, chosen, (chosen,), Measurement())


class World:
    """A store and what devices reported."""

    def __init__(self, store: SqliteStore, told: Outcome) -> None:
        self.store, self.now = store, 1000.0
        self.rows: dict[UsageKey, UsageTotals] = {}
        apply(store, profile())
        store.apply("Outcome", "job", labels={}, spec=encode(told))
        self.restart()

    def restart(self) -> None:
        needs = {"quantize.static": ("int8",)}
        rows, now = self.rows, lambda: self.now
        self.calibrator = Calibrator(self.store, rows.items, dict, needs, clock=now)
        self.calibrator.load()

    def report(self, times: float, devices: int = 12, inferences: int = 50) -> None:
        """Every device makes that many more, each of ``times`` as long as foretold, and the server looks."""
        for number in range(devices):
            key = UsageKey(f"cam-{number}", "b1", "cam", "vision", sha("file")[:12])
            old = self.rows.get(key, UsageTotals({"ok": 0}, energy={"rapl/package": 0.0}))
            count, seconds = old.inferences["ok"] + inferences, 0.01 * times
            counts = [0] * (len(LATENCY_BOUNDS) + 1)
            counts[sum(bound < seconds for bound in LATENCY_BOUNDS)] = count
            joules = {"rapl/package": old.energy["rapl/package"] + 0.1 * times * inferences}
            self.rows[key] = UsageTotals(
                {"ok": count}, LATENCY_BOUNDS, tuple(counts), old.duration_sum + seconds * inferences, joules, (), 1500
            )
        self.now += 60
        self.calibrator.look()

    @property
    def corrections(self) -> Corrections:
        return corrections_of(self.store)["cam"]


def test_what_devices_report_corrects_their_profile(store: SqliteStore) -> None:
    world = World(store, outcome())
    world.report(2.0)
    assert world.corrections.factor("latency", "int8") == pytest.approx(2.0)
    assert world.corrections.factor("energy", "int8") == pytest.approx(2.0)
    assert world.corrections.memory_added == pytest.approx(500)


def test_errors_fall_once_they_are_corrected(store: SqliteStore) -> None:
    world = World(store, outcome())
    assert world.calibrator.errors() == {}
    world.report(2.0)
    first = world.calibrator.errors()
    assert (first["latency"], first["memory"], first["energy"]) == pytest.approx((0.5, 1 / 3, 0.5))
    world.report(2.0)
    assert world.calibrator.errors() == pytest.approx({"latency": 0, "latency_p95": 0, "memory": 0, "energy": 0}, abs=1e-6)


def test_corrections_do_not_compound(store: SqliteStore) -> None:
    world = World(store, outcome(uncorrected=True))
    world.report(2.0)
    assert world.corrections.factor("latency", "int8") == pytest.approx(2.0)


def test_a_restart_neither_loses_nor_repeats_a_report(store: SqliteStore) -> None:
    world = World(store, outcome())
    world.report(2.0)
    before, revision = store.note("calibration/cam"), store.revision()
    world.restart()
    world.calibrator.look()
    assert store.note("calibration/cam") == before
    assert store.revision() == revision
    assert world.calibrator.errors()["latency"] == pytest.approx(0.5)


def test_reports_that_change_nothing_much_write_no_record(store: SqliteStore) -> None:
    world = World(store, outcome())
    world.report(2.0)
    revision = store.revision()
    world.report(2.001)
    assert store.revision() == revision


def test_a_large_fleet_takes_bounded_room(store: SqliteStore) -> None:
    world = World(store, outcome())
    world.report(2.0, devices=300)
    note = store.note("calibration/cam")
    assert note is not None
    assert len(note["heard"]) == 64


def test_what_is_not_known_here_is_not_learned_from(store: SqliteStore) -> None:
    world = World(store, outcome())
    store.delete("Outcome", "job")
    world.report(2.0)
    assert corrections_of(store) == {}


def test_what_was_learned_goes_with_its_profile(store: SqliteStore) -> None:
    world = World(store, outcome())
    world.report(2.0)
    store.delete("DeviceProfile", "cam")
    world.calibrator.look()
    assert store.list(KIND).records == ()
    assert store.note("calibration/cam") is None
