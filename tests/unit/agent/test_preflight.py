"""May an update begin: on this disk, with this memory, battery and clock, and with which file for differences."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from edge_compress.agent.machine import Assignment, Position
from edge_compress.agent.preflight import RUNTIME_BYTES, Clearance, Preflight, Rules
from edge_compress.agent.probe import Refused
from edge_compress.agent.slots import Slots
from edge_compress.agent.surroundings import Battery, Surroundings
from edge_compress.domain.window import parse_windows
from edge_compress.errors import StorageFull

MIB = 1 << 20


class Around(Surroundings):
    """What a test says."""

    def __init__(self, memory: int | None = None, battery: Battery | None = None, minute: int = 0) -> None:
        super().__init__()
        self._said = memory, battery, minute

    def free_memory(self) -> int | None:
        return self._said[0]

    def battery(self) -> Battery | None:
        return self._said[1]

    def minute_of_day(self) -> int:
        return self._said[2]


def assignment(data: bytes = b"new", **changes: object) -> Assignment:
    sha256 = hashlib.sha256(data).hexdigest()
    golden = hashlib.sha256(b"golden").hexdigest()
    made = Assignment("one", f"vision-{sha256[:12]}", "vision", sha256, len(data), golden, len(b"golden"), 1)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def serving(slots: Slots, data: bytes = b"old") -> Assignment:
    made = assignment(data)
    slots.partial(made.sha256).write_bytes(data)
    slots.partial(made.golden_sha256).write_bytes(b"golden")
    slots.stage(made)
    return made


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path)


def test_an_update_begins_where_nothing_speaks_against_it(slots: Slots) -> None:
    assert Preflight(slots, Around()).reason_to_wait() == ""
    assert Preflight(slots, Around()).clear(Position(), assignment()) == Clearance()


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (Around(minute=60), "waits for the maintenance window 02:00-04:00"),
        (Around(minute=121, battery=Battery(0.19, charging=False)), "waits for the battery: it is at 19%, updates begin at 20%"),
        (Around(minute=121, battery=Battery(0.19, charging=True)), ""),
        (Around(minute=121, battery=Battery(0.20, charging=False)), ""),
    ],
)
def test_it_waits_for_window_and_battery(slots: Slots, around: Around, said: str) -> None:
    rules = Rules(min_battery=0.2, windows=parse_windows("02:00-04:00", "w"))
    assert Preflight(slots, around, rules).reason_to_wait() == said


def test_a_candidate_has_room_beside_what_serves_or_alone_or_not_at_all(slots: Slots) -> None:
    wanted = assignment(expected_memory_bytes=6 * MIB)
    needed = RUNTIME_BYTES + 6 * MIB
    beside = Preflight(slots, Around(needed), serving=lambda: 10 * MIB)
    assert not beside.clear(Position(), wanted).alone
    alone = Preflight(slots, Around(needed - 5 * MIB), serving=lambda: 10 * MIB).clear(Position(), wanted)
    assert alone.alone
    assert alone.why.endswith("memory cannot hold both: about 70 MiB of memory are needed, 65 MiB are free")
    with pytest.raises(
        Refused, match="no room in memory: about 70 MiB of memory are needed, 55 MiB are free, 10 MiB more without"
    ):
        Preflight(slots, Around(needed - 15 * MIB), serving=lambda: 10 * MIB).clear(Position(), wanted)
    with pytest.raises(Refused, match=r"55 MiB are free$"):
        Preflight(slots, Around(needed - 15 * MIB)).clear(Position(), wanted)


def test_a_budget_counts_what_the_agent_holds_already(slots: Slots) -> None:
    wanted = assignment(expected_memory_bytes=0)
    rules = Rules(memory_budget=RUNTIME_BYTES + 50 * MIB)
    assert not Preflight(slots, Around(1 << 40), rules, held=lambda: 50 * MIB).clear(Position(), wanted).alone
    tight = Preflight(slots, Around(1 << 40), rules, held=lambda: 51 * MIB, serving=lambda: 40 * MIB)
    assert tight.clear(Position(), wanted).alone


def test_differences_go_to_what_serves_as_long_as_it_is_what_it_is_taken_for(slots: Slots) -> None:
    old = serving(slots)
    preflight, position = Preflight(slots, Around()), Position(serving=old)
    assert preflight.clear(position, assignment()).base == old.sha256
    assert preflight.clear(position, assignment(b"old", id="two")).base == "", "it is here already"
    slots.model(old).write_bytes(b"0ld")
    assert preflight.clear(position, assignment()).base == ""
    with pytest.raises(Refused, match="only differences may be fetched on this link"):
        preflight.clear(position, assignment(differences_only=True))


def test_what_the_device_cannot_take_is_refused_with_the_figures(slots: Slots) -> None:
    with pytest.raises(Refused, match="no runtime 'tflite'; it has onnxruntime"):
        Preflight(slots, Around()).clear(Position(), assignment(runtime="tflite"))
    with pytest.raises(StorageFull, match="no room on the disk: 54975"):
        Preflight(slots, Around()).clear(Position(), assignment(bytes=2**39))
