"""Files of sysfs, read as what they hold. Every way in which one cannot be read is an OSError."""

from __future__ import annotations

from pathlib import Path


def number(path: Path) -> int:
    """The integer in a file. Raises OSError."""
    text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        return int(text)
    except ValueError:
        raise OSError(f"{path} holds {text[:40]!r}, not a number") from None


def text(path: Path) -> str:
    """The line in a file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
