from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edge_compress.agent.machine import Assignment
from edge_compress.agent.slots import Slots, digest
from edge_compress.errors import Corrupt


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def assignment(model: bytes, golden: bytes = b"golden") -> Assignment:
    return Assignment(
        id="one", artifact="a", model="vision", sha256=sha(model), bytes=len(model),
        golden_sha256=sha(golden), golden_bytes=len(golden), golden_samples=1,
    )  # fmt: skip


def arrive(slots: Slots, model: bytes, golden: bytes = b"golden") -> Assignment:
    for data in (model, golden):
        slots.partial(sha(data)).write_bytes(data)
    return assignment(model, golden)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path)


def test_verified_files_move_into_their_slot_and_become_current(slots: Slots, tmp_path: Path) -> None:
    wanted = arrive(slots, b"model")
    assert not slots.staged(wanted)
    slots.verify(wanted)
    slots.stage(wanted)
    assert slots.staged(wanted)
    assert slots.model(wanted).read_bytes() == b"model"
    assert list((tmp_path / "partial").iterdir()) == []
    slots.switch(wanted)
    assert slots.current() == wanted.sha256
    assert (tmp_path / "current" / "golden.npz").read_bytes() == b"golden"
    slots.stage(wanted)
    slots.switch(None)
    assert slots.current() == ""


@pytest.mark.parametrize("bad", ["model", "golden"])
def test_bytes_that_are_not_what_they_should_be_are_thrown_away(slots: Slots, bad: str) -> None:
    wanted = arrive(slots, b"model")
    path = slots.partial(wanted.sha256 if bad == "model" else wanted.golden_sha256)
    path.write_bytes(b"mOdel!")
    with pytest.raises(Corrupt, match="expected"):
        slots.verify(wanted)
    assert not path.exists()


def test_rot_in_a_slot_is_found_and_the_slot_counts_no_more(slots: Slots) -> None:
    wanted = arrive(slots, b"model")
    slots.stage(wanted)
    slots.verify(wanted)
    slots.model(wanted).write_bytes(b"mOdel")
    with pytest.raises(Corrupt):
        slots.verify(wanted)
    assert not slots.staged(wanted)


def test_a_slot_without_a_manifest_is_not_there_and_never_becomes_current(slots: Slots) -> None:
    wanted = arrive(slots, b"model")
    slots.stage(wanted)
    (slots.folder(wanted) / "manifest.json").unlink()
    assert not slots.staged(wanted)
    with pytest.raises(FileNotFoundError):
        slots.switch(wanted)
    assert slots.current() == ""


def test_a_stage_that_was_killed_half_way_is_finished_by_doing_it_again(slots: Slots) -> None:
    wanted = arrive(slots, b"model")
    slots.folder(wanted).mkdir()
    slots.partial(wanted.sha256).rename(slots.model(wanted))
    slots.stage(wanted)
    assert slots.staged(wanted)
    slots.verify(wanted)


def test_a_switch_that_was_killed_half_way_is_finished_by_doing_it_again(slots: Slots, tmp_path: Path) -> None:
    wanted = arrive(slots, b"model")
    slots.stage(wanted)
    (tmp_path / "current.new").symlink_to("slots/nowhere")
    slots.switch(wanted)
    assert slots.current() == wanted.sha256
    assert not (tmp_path / "current.new").is_symlink()


def test_the_same_model_with_other_golden_vectors_takes_the_new_ones(slots: Slots) -> None:
    slots.stage(arrive(slots, b"model"))
    second = arrive(slots, b"model", b"other golden")
    assert not slots.staged(second)
    slots.verify(second)
    slots.stage(second)
    assert slots.golden(second).read_bytes() == b"other golden"


def test_sweeping_keeps_what_is_needed_and_what_is_current(slots: Slots, tmp_path: Path) -> None:
    made = [arrive(slots, data) for data in (b"a", b"b")]
    for wanted in made:
        for data in (b"a", b"b", b"golden"):
            slots.partial(sha(data)).write_bytes(data)
        slots.stage(wanted)
    slots.switch(made[0])
    slots.sweep(frozenset())
    assert [path.name for path in (tmp_path / "slots").iterdir()] == [made[0].sha256]
    slots.partial("f" * 64).write_bytes(b"rest")
    slots.sweep_partials(frozenset({"f" * 64}))
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["f" * 64]


def test_wanting_bytes_counts_what_has_arrived(slots: Slots) -> None:
    wanted = assignment(b"model" * 100)
    assert slots.wanting_bytes(wanted) == 500 + 6
    slots.partial(wanted.sha256).write_bytes(b"model" * 10)
    assert slots.wanting_bytes(wanted) == 450 + 6
    arrive(slots, b"model" * 100)
    slots.stage(wanted)
    assert slots.wanting_bytes(wanted) == 0
    assert slots.free_bytes() > 0


def test_digest_reads_files_larger_than_its_buffer(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert digest(tmp_path / "file") == sha(data)
