from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_compress.agent.journal import Journal, write_atomically
from edge_compress.agent.machine import Position
from edge_compress.domain.fleet import DeviceState

MOVES = [Position(DeviceState.PREFLIGHT), Position(DeviceState.FETCHING), Position(DeviceState.ROLLING_BACK, message="därum")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_a_new_journal_is_idle(path: Path) -> None:
    assert Journal(path).position == Position()
    assert not path.exists()


def test_the_newest_position_is_found_again(path: Path) -> None:
    journal = Journal(path)
    for position in MOVES:
        journal.append(position)
        assert Journal(path).position == position == journal.position


@pytest.mark.parametrize("kept", [1, 10, 40])
def test_a_torn_last_line_is_passed_over_and_does_not_swallow_the_next(path: Path, kept: int) -> None:
    journal = Journal(path)
    journal.append(MOVES[0])
    whole = path.stat().st_size
    journal.append(MOVES[1])
    path.write_bytes(path.read_bytes()[: whole + kept])
    again = Journal(path)
    assert again.position == MOVES[0]
    again.append(MOVES[2])
    assert Journal(path).position == MOVES[2]


def test_a_rotten_line_is_passed_over(path: Path) -> None:
    journal = Journal(path)
    for position in MOVES[:2]:
        journal.append(position)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(bytes(data))
    assert Journal(path).position == MOVES[0]


def test_random_bytes_are_idle(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 10)
    assert Journal(path).position == Position()


def test_it_stays_small_however_long_it_runs(path: Path) -> None:
    journal = Journal(path)
    sizes = []
    for number in range(500):
        journal.append(replace(MOVES[0], restarts=number))
        sizes.append(path.stat().st_size)
    assert max(sizes) < 64 * 300
    assert Journal(path).position.restarts == 499
    assert [item.name for item in path.parent.iterdir()] == ["journal"]


def test_writing_atomically_replaces_all_or_nothing(path: Path) -> None:
    write_atomically(path, b"old")
    (path.parent / "journal.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
