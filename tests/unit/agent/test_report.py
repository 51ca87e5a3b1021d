from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_compress.agent.report import BOUNDS, MAX_WAITING, Reports, Totals, restore, save


def test_bounds_rise_by_about_half_from_50_us_to_10_s() -> None:
    assert (BOUNDS[0], BOUNDS[-1]) == (50e-6, 10.0)
    assert all(1.0 < high / low <= 1.55 for low, high in pairwise(BOUNDS))


@given(st.lists(st.none() | st.floats(1e-6, 60), max_size=30))
def test_every_inference_is_in_one_bucket(durations: list[float | None]) -> None:
    totals = Totals()
    for seconds in durations:
        totals = totals.with_inference(seconds)
    good = [seconds for seconds in durations if seconds is not None]
    assert sum(totals.bucket_counts) == totals.inferences.get("ok", 0) == len(good)
    assert totals.inferences.get("error", 0) == len(durations) - len(good)
    assert totals.duration_sum == pytest.approx(sum(good))
    for index, bound in enumerate(BOUNDS):
        assert sum(totals.bucket_counts[: index + 1]) == sum(seconds <= bound for seconds in good)


def test_energy_is_absent_until_something_measured_it() -> None:
    assert Totals().with_inference(0.1).energy == {}
    assert Totals().with_energy("rapl/package", 1.5).with_energy("rapl/package", 1.0).energy == {"rapl/package": 2.5}


def test_what_is_acknowledged_waits_no_longer_unless_it_changed_since() -> None:
    reports = Reports("boot")
    one, two = reports.subject("vision", "1", ""), reports.subject("vision", "2", "canary")
    reports.count(one, 0.1)
    reports.count(two, 0.1)
    sequence, batch = reports.batch()
    assert set(batch) == {one, two}
    reports.count(two, None)
    reports.acknowledge(sequence)
    assert set(reports.waiting()) == {two}
    later, batch = reports.batch()
    assert later > sequence
    assert batch[two].inferences == {"ok": 1, "error": 1}
    reports.acknowledge(later)
    assert reports.batch() is None


def test_a_late_or_foreign_acknowledgement_drops_nothing_that_was_not_sent() -> None:
    reports = Reports("boot")
    subject = reports.subject("vision", "1", "")
    reports.count(subject, 0.1)
    sequence, _ = reports.batch()
    reports.forget_sent()
    reports.acknowledge(sequence)
    assert set(reports.waiting()) == {subject}


def test_without_acknowledgements_the_memory_is_bounded() -> None:
    reports = Reports("boot")
    for number in range(MAX_WAITING + 50):
        reports.count(reports.subject("vision", str(number), ""), 0.1)
    _, batch = reports.batch()
    assert len(batch) == MAX_WAITING
    assert min(int(subject.version) for subject in batch) == 50


def test_totals_of_an_earlier_boot_are_sent_under_its_id_until_acknowledged(tmp_path: Path) -> None:
    before = Reports("first")
    subject = before.subject("vision", "1", "")
    before.count(subject, 0.1)
    before.spend(subject, "estimate/process", 0.5)
    before.remember_peak(subject, 7)
    save(tmp_path / "usage", before.waiting())
    after = Reports("second", restore(tmp_path / "usage"))
    sequence, batch = after.batch()
    assert batch == {subject: before.totals(subject)}
    after.acknowledge(sequence)
    assert after.batch() is None
    assert after.totals(subject) == Totals()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'[{"subject": {}}]', b"\xff"])
def test_a_broken_file_of_totals_holds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "usage").write_bytes(content)
    assert restore(tmp_path / "usage") == {}
