from __future__ import annotations

import pytest

from edge_compress.domain.window import is_open, parse_windows
from edge_compress.errors import InvalidSpec


def test_windows_hold_the_minutes_in_them_and_go_over_midnight() -> None:
    night, noon = parse_windows("22:30-04:00, 12:00-13:00", "--maintenance-window")
    assert [night.holds(minute) for minute in (22 * 60 + 29, 22 * 60 + 30, 0, 239, 240)] == [False, True, True, True, False]
    assert [noon.holds(minute) for minute in (719, 720, 779, 780)] == [False, True, True, False]
    assert str(night) == "22:30-04:00"
    assert is_open((night, noon), 730)
    assert not is_open((night, noon), 600)
    assert is_open((), 600)


@pytest.mark.parametrize("text", ["2:00-4:00", "02:00", "02:00-24:00", "02:60-03:00", "02:00-02:00", "night"])
def test_what_is_no_time_of_the_day_is_refused_by_the_flags_name(text: str) -> None:
    with pytest.raises(InvalidSpec, match="--maintenance-window"):
        parse_windows(text, "--maintenance-window")
