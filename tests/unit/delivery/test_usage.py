"""The ledger of usage over a real store: duplicates, restarts, many boots, and devices that cannot be trusted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.session import LATENCY_BOUNDS, EnergyReading, UsageReport
from edge_compress.errors import StorageFull
from edge_compress.store.interface import UsageKey, UsageTotals
from edge_compress.store.sqlite import SqliteStore
from edge_compress.store.state import open_state


def report(count: int, boot: str = "b1", version: str = "v1", joules: float | None = None) -> UsageReport:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    counts[10] = count
    energy = () if joules is None else (EnergyReading("estimate", "process", joules),)
    return UsageReport(boot, "vision", version, "", {"ok": count}, LATENCY_BOUNDS, tuple(counts), count * 0.003, energy)


def total(ledger: UsageLedger) -> int:
    return sum(sum(one.totals.inferences.values()) for one in ledger.series())


def reopened(store: SqliteStore) -> UsageLedger:
    ledger = UsageLedger(store)
    ledger.load()
    return ledger


async def test_what_was_accepted_is_stored(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    await ledger.accept("cam-1", "cam", [report(3, joules=1.5)])
    ((key, row),) = store.usage()
    assert key == UsageKey("cam-1", "b1", "cam", "vision", "v1")
    assert (row.inferences, row.energy) == ({"ok": 3}, {"estimate/process": 1.5})


async def test_repeats_and_reordering_never_count_twice(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    for count in (3, 3, 7, 5, 7):
        await ledger.accept("cam-1", "cam", [report(count)])
    assert total(ledger) == total(reopened(store)) == 7


async def test_devices_boots_and_versions_add_up(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    await ledger.accept("cam-1", "cam", [report(3), report(4, boot="b2"), report(5, version="v2")])
    await ledger.accept("cam-2", "cam", [report(10)])
    sums = {(one.profile, one.version): one.totals.inferences["ok"] for one in ledger.series()}
    assert sums == {("cam", "v1"): 17, ("cam", "v2"): 5}
    assert reopened(store).series() == ledger.series()


async def test_many_at_once_are_all_stored(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    await asyncio.gather(*(ledger.accept(f"cam-{index}", "cam", [report(index)]) for index in range(1, 201)))
    assert total(ledger) == total(reopened(store)) == 200 * 201 // 2


async def test_a_device_that_restarts_for_ever_takes_bounded_room(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    seen = []
    for boot in range(40):
        await ledger.accept("cam-1", "cam", [report(2, boot=f"b{boot}", joules=0.1)])
        seen.append(total(ledger))
    assert seen == [2 * (boot + 1) for boot in range(40)]
    assert len(list(store.usage())) == 5
    assert reopened(store).series() == ledger.series()


async def test_a_late_repeat_of_a_folded_boot_is_not_counted_again(store: SqliteStore) -> None:
    dropped: Counter[str] = Counter()
    ledger = UsageLedger(store, dropped=lambda reason, count: dropped.update({reason: count}))
    for boot in range(10):
        await ledger.accept("cam-1", "cam", [report(2, boot=f"b{boot}")])
    await ledger.accept("cam-1", "cam", [report(2, boot="b0")])
    assert (total(ledger), dropped) == (20, {"stale": 1})
    again = reopened(store)
    await again.accept("cam-1", "cam", [report(2, boot="b0")])
    assert total(again) == 20


async def test_a_forgotten_device_leaves_its_counts(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    await ledger.accept("cam-1", "cam", [report(3), report(4, boot="b2")])
    await ledger.accept("cam-2", "cam", [report(10)])
    before = ledger.series()
    await ledger.forget("cam-1")
    await ledger.forget("cam-1")
    assert ledger.series() == reopened(store).series() == before
    assert {key.device for key, _ in store.usage()} == {"", "cam-2"}
    await ledger.accept("cam-1", "cam", [report(4, boot="b2")])
    assert ledger.series() == before


async def test_a_boot_that_changes_its_buckets_is_dropped_and_counted(store: SqliteStore) -> None:
    dropped: Counter[str] = Counter()
    ledger = UsageLedger(store, dropped=lambda reason, count: dropped.update({reason: count}))
    await ledger.accept("cam-1", "cam", [report(3)])
    odd = UsageReport("b1", "vision", "v1", "", {"ok": 9}, (0.1,), (9, 0))
    await ledger.accept("cam-1", "cam", [odd, report(4)])
    assert (total(ledger), dropped) == (4, {"invalid": 1})


async def test_a_device_that_invents_versions_is_bounded(store: SqliteStore) -> None:
    dropped: Counter[str] = Counter()
    ledger = UsageLedger(store, dropped=lambda reason, count: dropped.update({reason: count}))
    await ledger.accept("cam-1", "cam", [report(1, version=f"v{index}") for index in range(300)])
    assert (total(ledger), dropped) == (256, {"series": 44})


class FullStore:
    """A real store whose disk is full for a while."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.full = store, True

    def put_usage(self, totals: Sequence[tuple[UsageKey, UsageTotals]]) -> None:
        if self.full:
            raise StorageFull("no room left")
        self.store.put_usage(totals)

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


async def test_nothing_is_counted_or_acknowledged_that_could_not_be_stored(store: SqliteStore) -> None:
    full = FullStore(store)
    ledger = UsageLedger(full)  # type: ignore[arg-type]
    results = await asyncio.gather(
        *(ledger.accept(f"cam-{index}", "cam", [report(1)]) for index in range(5)), return_exceptions=True
    )
    assert all(isinstance(result, StorageFull) for result in results)
    assert total(ledger) == 0
    full.full = False
    await ledger.accept("cam-0", "cam", [report(1)])
    assert total(ledger) == total(reopened(store)) == 5


async def test_what_one_device_made_of_an_artifact(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    await ledger.accept("cam-1", "cam", [report(10, joules=5.0), report(10, boot="b2", joules=15.0)])
    usage = ledger.device("cam-1", "vision", "v1")
    assert (usage.inferences, usage.joules_per_inference, usage.energy_source) == (20, 1.0, "estimate")
    assert usage.p95_seconds == pytest.approx(LATENCY_BOUNDS[9] + 0.95 * (LATENCY_BOUNDS[10] - LATENCY_BOUNDS[9]))
    nothing = ledger.device("cam-1", "vision", "v9")
    assert (nothing.inferences, nothing.p95_seconds, nothing.joules_per_inference) == (0, None, None)


async def test_energy_that_grows_without_inferences_survives_a_restart(store: SqliteStore) -> None:
    ledger = UsageLedger(store)
    await ledger.accept("cam-1", "cam", [report(3, joules=0.3)])
    await ledger.accept("cam-1", "cam", [report(3, joules=0.7)])
    assert ledger.series()[0].totals.energy == {"estimate/process": 0.7}
    assert reopened(store).series() == ledger.series()


COUNTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7), st.integers(1, 5)), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.randoms())
def test_whatever_happens_on_the_way_the_sum_is_what_was_done(
    tmp_path_factory: pytest.TempPathFactory, work: list[tuple[int, int, int]], random: Random
) -> None:
    """Devices boot again and again; reports repeat, arrive late or never; the server restarts: no inference is lost or doubled,
    and no counter ever falls."""
    store = open_state(tmp_path_factory.mktemp("state"))
    try:
        asyncio.run(_live_through(store, work, random))
    finally:
        store.close()


async def _live_through(store: SqliteStore, work: list[tuple[int, int, int]], random: Random) -> None:
    ledger, done, heard = reopened(store), Counter(), 0
    for device, boot, count in work:
        done[device, boot] += count
        for repeat in random.choices(list(done), k=random.randint(0, 3)):
            said = random.choice([done[repeat], max(1, done[repeat] - 1)])
            await ledger.accept(f"cam-{repeat[0]}", "cam", [report(said, boot=f"b{repeat[1]}", joules=said * 0.1)])
        if random.random() < 0.2:
            ledger = reopened(store)
        assert total(ledger) >= heard
        heard = total(ledger)
    for (device, boot), count in done.items():
        await ledger.accept(f"cam-{device}", "cam", [report(count, boot=f"b{boot}", joules=count * 0.1)])
    # A folded boot counts no further: what came late of it is missing, but nothing is ever counted twice.
    folded = {(key.device, boot) for key, row in store.usage() for boot in row.folded}
    whole = sum(count for (device, boot), count in done.items() if (f"cam-{device}", f"b{boot}") not in folded)
    assert whole <= total(ledger) <= sum(done.values())
    assert reopened(store).series() == ledger.series()
