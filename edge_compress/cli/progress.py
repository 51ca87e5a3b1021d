"""Progress of several things at once, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
import threading
from types import TracebackType
from typing import Any, Protocol, Self

_DIGITS = re.compile(r"\d+")
_STEP = 0.25
"""without a terminal, a line is written when the words change or this much more is done"""


class Bars(Protocol):
    """What both forms offer. ``show`` may be called from any thread."""

    def show(self, key: str, fraction: float, message: str) -> None:
        """Say how far ``key`` is, 0 to 1, and what it does."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def bars() -> Bars:
    """Bars where stderr is a terminal, lines elsewhere."""
    return _TerminalBars() if sys.stderr.isatty() else _Lines()


class _Lines:
    """A line per thing worth saying."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def show(self, key: str, fraction: float, message: str) -> None:
        with self._lock:
            before, words = self._said.get(key, (-1.0, ""))
            kind = _DIGITS.sub("", message)  # "tried 3 of 14" is the same thing to say as "tried 4 of 14"
            if kind == words and abs(fraction - before) < _STEP and not (fraction >= 1 > before):
                return
            self._said[key] = (fraction, kind)
            sys.stderr.write(f"{key}: {fraction:4.0%} {message}\n")
            sys.stderr.flush()


class _TerminalBars:
    """Rich's bars, one a thing."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.fields[key]}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
        self._progress = Progress(*columns, TimeElapsedColumn(), TextColumn("{task.description}"), console=Console(stderr=True))
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, key: str, fraction: float, message: str) -> None:
        with self._lock:
            if key not in self._tasks:
                self._tasks[key] = self._progress.add_task("", total=1.0, key=key)
        from rich.markup import escape

        self._progress.update(self._tasks[key], completed=fraction, description=escape(message))
