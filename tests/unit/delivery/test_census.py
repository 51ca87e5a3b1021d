"""Devices by place: each counted once, wherever it went."""

from __future__ import annotations

from edge_compress.delivery.census import Census, Place


def test_a_device_is_counted_where_it_was_last_noted() -> None:
    census = Census()
    census.note("a", Place("cam", "Idle"))
    census.note("b", Place("cam", "Idle"))
    census.note("a", Place("cam", "Committed"))
    census.note("a", Place("cam", "Committed"))
    assert census.counts() == {Place("cam", "Idle"): 1, Place("cam", "Committed"): 1}


def test_states_are_those_of_all_profiles() -> None:
    census = Census()
    census.note("a", Place("cam", "Idle"))
    census.note("b", Place("mcu", "Idle"))
    assert census.states() == {"Idle": 2}


def test_a_forgotten_device_leaves_no_empty_place() -> None:
    census = Census()
    census.note("a", Place("cam", "Idle"))
    census.note("a", None)
    census.note("stranger", None)
    assert not census.counts()
