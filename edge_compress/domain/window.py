"""Times of the day at which a device may be worked on. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edge_compress.errors import InvalidSpec

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z")


@dataclass(frozen=True)
class Window:
    """From one minute of the day to another, the device's own time; one that ends before it begins goes over midnight."""

    begins: int
    ends: int

    def holds(self, minute: int) -> bool:
        """Whether a minute of the day lies within."""
        if self.begins <= self.ends:
            return self.begins <= minute < self.ends
        return minute >= self.begins or minute < self.ends

    def __str__(self) -> str:
        return f"{self.begins // 60:02}:{self.begins % 60:02}-{self.ends // 60:02}:{self.ends % 60:02}"


def parse_windows(text: str, field: str) -> tuple[Window, ...]:
    """Read ``02:00-04:30,13:00-14:00``; empty: none. Raises InvalidSpec naming ``field``."""
    return tuple(_window(part.strip(), text, field) for part in text.split(",") if part.strip())


def is_open(windows: Sequence[Window], minute: int) -> bool:
    """Whether a minute of the day lies within one of them; always where there are none."""
    return not windows or any(window.holds(minute) for window in windows)


def _window(part: str, text: str, field: str) -> Window:
    found = _WINDOW.match(part)
    begins, ends = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, 0)
    if begins == ends:
        raise InvalidSpec.at(field, text, "times of the day like 02:00-04:30,13:00-14:00")
    return Window(begins, ends)
