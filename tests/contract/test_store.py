"""What every store must do. The fixtures in ``conftest`` run this suite over each implementation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pytest

from edge_compress.errors import Conflict, InvalidInput, InvalidSpec, NotFound
from edge_compress.store.interface import ApplyOutcome, Change, Event, Page, Store, UsageKey, UsageTotals

KEY = UsageKey("cam-01", "boot-1", "cam", "vision", "0123456789ab", "canary")


def put(store: Store, name: str, kind: str = "Model", **spec: object) -> int:
    return store.apply(kind, name, labels={}, spec=spec)[0].revision


def pages(store: Store, kind: str, size: int, between: Callable[[Page], None] = lambda page: None) -> Iterator[str]:
    token = ""
    while True:
        page = store.list(kind, page_size=size, page_token=token)
        assert len(page.records) <= size
        yield from (record.name for record in page.records)
        token = page.next_token
        if not token:
            return
        between(page)


class TestResources:
    def test_a_new_record_is_what_was_asked_for(self, store: Store) -> None:
        record, outcome = store.apply(
            "Model", "vision", labels={"site": "a"}, spec={"n": [1, {"x": None}]}, status={"ready": False}
        )
        assert outcome is ApplyOutcome.CREATED
        assert (record.kind, record.name, record.generation, record.revision) == ("Model", "vision", 1, 1)
        assert (record.labels, record.spec, record.status) == ({"site": "a"}, {"n": [1, {"x": None}]}, {"ready": False})
        assert record.uid
        assert record.created_at == record.updated_at > 0
        assert store.get("Model", "vision") == record

    def test_equal_apply_changes_nothing_at_all(self, store: Store) -> None:
        first, _ = store.apply("Model", "vision", labels={"a": "1", "b": "2"}, spec={"x": 1, "y": [1, 2]}, status={"n": 1})
        again, outcome = store.apply(
            "Model", "vision", labels=MappingProxyType({"b": "2", "a": "1"}), spec={"y": (1, 2), "x": 1}, status={"n": 2}
        )
        assert outcome is ApplyOutcome.UNCHANGED
        assert again == first == store.get("Model", "vision")
        assert store.revision() == first.revision
        assert len(store.events(["Model"], 0)) == 1

    def test_a_changed_spec_raises_generation_and_revision_and_keeps_status(self, store: Store) -> None:
        first, _ = store.apply("Model", "vision", labels={}, spec={"x": 1}, status={"n": 1})
        second, outcome = store.apply("Model", "vision", labels={}, spec={"x": 2}, status={"n": 99})
        assert outcome is ApplyOutcome.CONFIGURED
        assert (second.generation, second.revision) == (2, first.revision + 1)
        assert (second.uid, second.created_at, second.status) == (first.uid, first.created_at, {"n": 1})

    def test_changed_labels_raise_the_revision_only(self, store: Store) -> None:
        put(store, "vision")
        record, outcome = store.apply("Model", "vision", labels={"a": "1"}, spec={})
        assert (outcome, record.generation, record.revision, record.labels) == (ApplyOutcome.CONFIGURED, 1, 2, {"a": "1"})

    @pytest.mark.parametrize(("before", "after"), [({"x": 1}, {"x": True}), ({"x": 1}, {"x": 1.0}), ({"x": None}, {})])
    def test_values_that_only_python_calls_equal_are_a_change(self, store: Store, before: dict, after: dict) -> None:
        store.apply("Model", "vision", labels={}, spec=before)
        record, outcome = store.apply("Model", "vision", labels={}, spec=after)
        assert outcome is ApplyOutcome.CONFIGURED
        assert repr(record.spec) == repr(after)

    def test_a_stale_generation_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        store.apply("Model", "vision", labels={}, spec={"x": 1})
        store.apply("Model", "vision", labels={}, spec={"x": 2}, expected_generation=1)
        for spec in ({"x": 3}, {"x": 2}):
            with pytest.raises(Conflict, match="generation 2, not 1"):
                store.apply("Model", "vision", labels={}, spec=spec, expected_generation=1)
        assert store.get("Model", "vision").spec == {"x": 2}
        assert store.revision() == 2

    def test_an_expected_generation_of_what_is_not_there_is_a_conflict(self, store: Store) -> None:
        with pytest.raises(Conflict):
            store.apply("Model", "vision", labels={}, spec={}, expected_generation=1)
        with pytest.raises(NotFound):
            store.get("Model", "vision")

    def test_status_keeps_spec_and_generation(self, store: Store) -> None:
        first, _ = store.apply("Model", "vision", labels={"a": "1"}, spec={"x": 1})
        second = store.set_status("Model", "vision", {"n": 1})
        assert (second.spec, second.labels, second.generation) == (first.spec, first.labels, first.generation)
        assert (second.status, second.revision) == ({"n": 1}, first.revision + 1)
        assert store.get("Model", "vision") == second

    def test_an_equal_status_changes_nothing(self, store: Store) -> None:
        put(store, "vision")
        first = store.set_status("Model", "vision", {"n": 1})
        assert store.set_status("Model", "vision", {"n": 1}) == first
        assert store.revision() == first.revision

    def test_many_statuses_are_told_one_by_one_and_what_is_not_there_stops_none(self, store: Store) -> None:
        for name in ("a", "b", "c"):
            put(store, name)
        store.set_status("Model", "b", {"n": 1})
        before, heard = store.revision(), []
        store.subscribe(heard.append)
        assert store.set_statuses("Model", {name: {"n": 1} for name in ("a", "b", "c", "d")}) == {"d"}
        assert [store.get("Model", name).status for name in ("a", "b", "c")] == [{"n": 1}] * 3
        assert [(event.record.name, event.record.revision) for event in heard] == [("a", before + 1), ("c", before + 2)]
        assert store.set_statuses("Model", {}) == store.set_statuses("Model", {"a": {"n": 1}}) == frozenset()
        assert store.revision() == before + 2

    def test_many_statuses_are_set_together_or_not_at_all(self, store: Store) -> None:
        put(store, "a")
        put(store, "b")
        with pytest.raises(InvalidSpec):
            store.set_statuses("Model", {"a": {"n": 1}, "b": {"n": float("nan")}})
        assert store.get("Model", "a").status == {}

    def test_a_stale_revision_is_a_conflict(self, store: Store) -> None:
        revision = put(store, "vision")
        store.set_status("Model", "vision", {"n": 1}, expected_revision=revision)
        with pytest.raises(Conflict, match=f"revision {revision + 1}, not {revision}"):
            store.set_status("Model", "vision", {"n": 2}, expected_revision=revision)
        assert store.get("Model", "vision").status == {"n": 1}

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        put(store, "vision", kind="Recipe")
        for act in (
            lambda: store.get("Model", "vision"),
            lambda: store.delete("Model", "vision"),
            lambda: store.set_status("Model", "vision", {}),
        ):
            with pytest.raises(NotFound) as caught:
                act()
            assert (caught.value.kind, caught.value.name) == ("Model", "vision")

    def test_delete_returns_the_last_of_it_and_a_successor_starts_anew(self, store: Store) -> None:
        put(store, "vision", x=1)
        last = store.set_status("Model", "vision", {"n": 1})
        assert store.delete("Model", "vision") == last
        with pytest.raises(NotFound):
            store.get("Model", "vision")
        successor, outcome = store.apply("Model", "vision", labels={}, spec={"x": 1})
        assert (outcome, successor.generation, successor.revision) == (ApplyOutcome.CREATED, 1, last.revision + 2)
        assert successor.uid != last.uid

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, object()])
    def test_what_json_cannot_carry_is_refused(self, store: Store, value: object) -> None:
        with pytest.raises(InvalidSpec, match="spec"):
            put(store, "vision", x=value)
        assert store.revision() == 0

    @pytest.mark.parametrize("name", ["", "a\x00b", "\ud800"])
    def test_a_name_that_cannot_be_printed_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(InvalidSpec, match="name"):
            put(store, name)

    def test_changing_what_was_returned_changes_nothing_stored(self, store: Store) -> None:
        record, _ = store.apply("Model", "vision", labels={}, spec={"x": [1]})
        record.spec["x"].append(2)
        assert store.get("Model", "vision").spec == {"x": [1]}

    def test_everything_is_there_when_opened_again(self, open_store: Callable[..., Store], tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.apply("Model", "vision", labels={"a": "é"}, spec={"x": "žluť"}, status={"n": 1})
        before, events = store.get("Model", "vision"), store.events(["Model"], 0)
        store.close()
        store = open_store(tmp_path)
        assert store.get("Model", "vision") == before
        assert (store.events(["Model"], 0), store.revision()) == (events, 1)


class TestListing:
    def test_records_come_by_name_and_of_one_kind(self, store: Store) -> None:
        for name in ("b", "é", "a", "B", "c.1"):
            put(store, name)
        put(store, "other", kind="Recipe")
        page = store.list("Model")
        assert [record.name for record in page.records] == ["B", "a", "b", "c.1", "é"]
        assert page.next_token == ""
        assert store.list("Nothing") == Page(())

    def test_labels_select_those_that_carry_all(self, store: Store) -> None:
        for name, labels in {"a": {"x": "1"}, "b": {"x": "1", "y": "2"}, "c": {"x": "2", "y": "2"}, "d": {}}.items():
            store.apply("Device", name, labels=labels, spec={})
        assert [record.name for record in store.list("Device", labels={"x": "1"}).records] == ["a", "b"]
        assert [record.name for record in store.list("Device", labels={"x": "1", "y": "2"}).records] == ["b"]
        assert store.list("Device", labels={"x": "1' OR 1=1 --"}).records == ()

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
    def test_pages_hold_everything_once(self, store: Store, size: int) -> None:
        names = [f"m{number}" for number in range(7)]
        for name in names:
            put(store, name)
        assert list(pages(store, "Model", size)) == names

    def test_labels_hold_across_pages(self, store: Store) -> None:
        for number in range(10):
            store.apply("Device", f"d{number}", labels={"even": str(number % 2 == 0)}, spec={})
        first = store.list("Device", page_size=3, labels={"even": "True"})
        second = store.list("Device", page_size=3, page_token=first.next_token, labels={"even": "True"})
        assert [record.name for record in first.records + second.records] == ["d0", "d2", "d4", "d6", "d8"]
        assert second.next_token == ""

    def test_paging_while_records_come_and_go_neither_skips_nor_repeats(self, store: Store) -> None:
        staying = [f"m{number:02}" for number in range(0, 40, 2)]
        for name in staying:
            put(store, name)
        rounds = iter(range(1000))

        def churn(page: Page) -> None:
            number = next(rounds)
            last = page.records[-1].name
            put(store, f"{last}-new")  # just behind the page that was read
            put(store, f"a{number}")  # and before everything
            if last not in staying:
                store.delete("Model", last)

        seen = [name for name in pages(store, "Model", 3, churn) if name in staying]
        assert seen == staying

    @pytest.mark.parametrize("token", ["x", "not-a-token", "bm9wZQ==", "e30=", "WzEsMl0=", "é", "WyJNb2RlbCIsICJcdWQ4MDAiXQ=="])
    def test_a_token_that_is_none_is_refused(self, store: Store, token: str) -> None:
        with pytest.raises(InvalidSpec, match="page_token"):
            store.list("Model", page_size=1, page_token=token)

    def test_a_token_of_another_kind_is_refused(self, store: Store) -> None:
        put(store, "a")
        put(store, "b")
        token = store.list("Model", page_size=1).next_token
        with pytest.raises(InvalidSpec, match="page_token"):
            store.list("Recipe", page_size=1, page_token=token)

    def test_a_negative_page_size_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidSpec, match="page_size"):
            store.list("Model", page_size=-1)


class TestWatching:
    def test_events_tell_every_change_in_order(self, store: Store) -> None:
        put(store, "a", x=1)
        put(store, "b", kind="Recipe")
        put(store, "a", x=2)
        store.set_status("Model", "a", {"n": 1})
        last = store.delete("Model", "a")
        events = store.events(["Model", "Recipe"], 0)
        assert [(event.change, event.record.kind, event.record.revision) for event in events] == [
            (Change.ADDED, "Model", 1),
            (Change.ADDED, "Recipe", 2),
            (Change.MODIFIED, "Model", 3),
            (Change.MODIFIED, "Model", 4),
            (Change.DELETED, "Model", 5),
        ]
        assert [event.record.spec for event in events if event.record.kind == "Model"] == [{"x": 1}, {"x": 2}, {"x": 2}, {"x": 2}]
        deleted = events[-1].record
        assert (deleted.uid, deleted.spec, deleted.status) == (last.uid, last.spec, last.status)

    def test_events_are_chosen_by_kind_revision_and_limit(self, store: Store) -> None:
        for number in range(6):
            put(store, f"m{number}", kind="Model" if number % 2 else "Recipe")
        assert [event.record.revision for event in store.events(["Model"], 2)] == [4, 6]
        assert [event.record.revision for event in store.events(["Model", "Recipe"], 2, limit=2)] == [3, 4]
        assert list(store.events(["Model", "Recipe"], 6)) == []
        assert list(store.events([], 0)) == []

    def test_a_listener_hears_everything_in_order_before_the_change_returns(self, store: Store) -> None:
        heard: list[Event] = []
        store.subscribe(heard.append)
        for number in range(3):
            assert put(store, "a", x=number) == heard[-1].record.revision
        put(store, "a", x=2)
        store.delete("Model", "a")
        assert heard == list(store.events(["Model"], 0))

    def test_a_listener_that_stopped_hears_nothing_more(self, store: Store) -> None:
        heard: list[Event] = []
        stop = store.subscribe(heard.append)
        put(store, "a")
        stop()
        stop()
        put(store, "b")
        assert len(heard) == 1

    def test_a_listener_that_fails_harms_neither_the_write_nor_the_others(self, store: Store) -> None:
        heard: list[Event] = []

        def broken(event: Event) -> None:
            raise ValueError("broken listener")

        store.subscribe(broken)
        store.subscribe(heard.append)
        put(store, "a")
        put(store, "b")
        assert [event.record.name for event in heard] == ["a", "b"]

    def test_many_writers_are_heard_in_the_order_of_revisions_without_a_gap(self, store: Store) -> None:
        heard: list[int] = []
        store.subscribe(lambda event: heard.append(event.record.revision))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: put(store, f"m{number % 20}", x=number), range(200)))
        assert heard == list(range(1, store.revision() + 1))
        assert [event.record.revision for event in store.events(["Model"], 0)] == heard

    def test_dropped_events_are_a_conflict_and_the_newest_stay(self, open_store: Callable[..., Store], tmp_path: Path) -> None:
        store = open_store(tmp_path / "bounded", keep_events=50)
        for number in range(120):
            put(store, "a", x=number)
        assert [event.record.revision for event in store.events(["Model"], 70)] == list(range(71, 121))
        with pytest.raises(Conflict, match="list again"):
            store.events(["Model"], 0)

    def test_a_revision_yet_to_come_is_a_conflict(self, store: Store) -> None:
        put(store, "a")
        with pytest.raises(Conflict, match="list again"):
            store.events(["Model"], 2)


class TestThreads:
    def test_only_one_of_two_that_expect_the_same_generation_wins(self, store: Store) -> None:
        put(store, "counter", value=0)

        def increment(_: int) -> int:
            for attempt in range(10_000):
                record = store.get("Model", "counter")
                with contextlib.suppress(Conflict):
                    value = record.spec["value"] + 1
                    store.apply("Model", "counter", labels={}, spec={"value": value}, expected_generation=record.generation)
                    return attempt
            raise AssertionError("never won")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(increment, range(60)))
        record = store.get("Model", "counter")
        assert (record.spec, record.generation) == ({"value": 60}, 61)

    def test_one_of_many_that_create_the_same_thing_creates_it(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda _: store.apply("Model", "a", labels={}, spec={})[1], range(40)))
        assert outcomes.count(ApplyOutcome.CREATED) == 1
        assert outcomes.count(ApplyOutcome.UNCHANGED) == 39

    def test_a_write_that_fails_leaves_its_neighbours_alone(self, store: Store) -> None:
        def write(number: int) -> str:
            try:
                return store.apply("Model", f"m{number}", labels={}, spec={}, expected_generation=number % 2)[0].name
            except Conflict:
                return ""

        with ThreadPoolExecutor(16) as pool:
            written = [name for name in pool.map(write, range(200)) if name]
        assert sorted(written) == sorted(f"m{number}" for number in range(0, 200, 2))
        assert [record.name for record in store.list("Model").records] == sorted(written)

    def test_readers_see_whole_changes_only(self, store: Store) -> None:
        put(store, "pair", left=0, right=0)
        done = threading.Event()

        def read() -> int:
            torn = 0
            while not done.is_set():
                spec = store.get("Model", "pair").spec
                torn += spec["left"] != spec["right"]
            return torn

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            for number in range(200):
                put(store, "pair", left=number, right=number)
            done.set()
            assert [reader.result() for reader in readers] == [0, 0, 0]


class TestSteps:
    def test_the_first_result_stays(self, store: Store) -> None:
        assert store.step("key") is None
        store.put_step("key", {"sha256": "a", "seconds": 1.5})
        store.put_step("key", {"sha256": "b"})
        assert store.step("key") == {"sha256": "a", "seconds": 1.5}

    def test_results_outlive_the_process(self, open_store: Callable[..., Store], tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.put_step("key", {"n": [1]})
        store.close()
        assert open_store(tmp_path).step("key") == {"n": [1]}


class TestNotes:
    def test_the_last_value_stays_and_nobody_hears_of_it(self, store: Store) -> None:
        revision = store.revision()
        assert store.note("key") is None
        for value in ({"n": 1}, {"n": [2, "two"]}):
            store.put_note("key", value)
            assert store.note("key") == value
        store.put_note("key", None)
        store.put_note("never", None)
        assert store.note("key") is None
        assert store.revision() == revision

    def test_values_outlive_the_process(self, open_store: Callable[..., Store], tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.put_note("key", {"n": 1.5})
        store.close()
        assert open_store(tmp_path).note("key") == {"n": 1.5}


class TestUsage:
    TOTALS = UsageTotals({"ok": 5, "error": 1}, (0.1, 1.0), (4, 1, 1), 0.7, {"rapl/package": 2.5}, ("boot-0",))

    def test_totals_come_back_as_they_were(self, store: Store) -> None:
        store.put_usage([(KEY, self.TOTALS)])
        assert list(store.usage()) == [(KEY, self.TOTALS)]

    def test_the_largest_stays_whatever_the_order_and_however_often(self, store: Store) -> None:
        small, large = UsageTotals({"ok": 2}), self.TOTALS
        store.put_usage([(KEY, small), (KEY, large), (KEY, small)])
        store.put_usage([(KEY, small)])
        store.put_usage([(KEY, large)])
        assert list(store.usage()) == [(KEY, large)]

    def test_the_later_of_equal_counts_stays(self, store: Store) -> None:
        store.put_usage([(KEY, UsageTotals({"ok": 2}, energy={"ina/soc": 1.0}))])
        store.put_usage([(KEY, UsageTotals({"ok": 1, "error": 1}, energy={"ina/soc": 2.0}))])
        assert [totals.energy for _, totals in store.usage()] == [{"ina/soc": 2.0}]

    def test_every_part_of_the_key_counts(self, store: Store) -> None:
        keys = [UsageKey(*(f"{part}{number == place}" for place, part in enumerate("dbpmvc"))) for number in range(7)]
        store.put_usage([(key, UsageTotals({"ok": number})) for number, key in enumerate(keys)])
        assert dict(store.usage()) == {key: UsageTotals({"ok": number}) for number, key in enumerate(keys)}

    def test_more_than_a_page_is_read_once_each(self, store: Store) -> None:
        rows = [(UsageKey(f"d{number}", "b", "p", "m", "v"), UsageTotals({"ok": number})) for number in range(2345)]
        store.put_usage(rows)
        assert sorted(store.usage(), key=lambda row: row[1].inferences["ok"]) == rows

    def test_fold_replaces_and_drops(self, store: Store) -> None:
        old, gone = UsageKey("d", "1", "p", "m", "v"), UsageKey("d", "2", "p", "m", "v")
        store.put_usage([(old, UsageTotals({"ok": 9})), (gone, UsageTotals({"ok": 4}))])
        folded = UsageTotals({"ok": 3}, folded=("2",))
        store.fold_usage([(old, folded)], [gone, UsageKey("never", "seen", "p", "m", "v")])
        assert list(store.usage()) == [(old, folded)]

    @pytest.mark.parametrize(
        "bad", [UsageTotals({"ok": -1}), UsageTotals({"ok": 1 << 63}), UsageTotals({}, duration_sum=float("nan"))]
    )
    def test_one_absurd_row_is_refused_and_none_is_kept(self, store: Store, bad: UsageTotals) -> None:
        with pytest.raises(InvalidInput):
            store.put_usage([(KEY, self.TOTALS), (KEY, bad)])
        assert list(store.usage()) == []
