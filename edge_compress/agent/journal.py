"""The agent's memory across kills: every position is appended and synced before it takes effect.

One line a position: the CRC-32 of the rest, a space, JSON. A torn or rotten line is passed over, so that the newest whole line
counts. Leaves to ``machine`` what a position means.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

from edge_compress.agent.machine import Position, from_plain, to_plain
from edge_compress.errors import InvalidSpec

_COMPACT_AT = 64
"""lines after which the file is written anew with the last one only"""


class Journal:
    """An append-only file of positions. One writer; the state folder's lock sees to that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = _lines(path)
        self._lines = len(lines)
        self.position = _newest(lines)

    def append(self, position: Position) -> None:
        """Make ``position`` the one a restart finds. It is on the disk when this returns. Raises OSError."""
        line = _pack(position)
        if self._lines >= _COMPACT_AT:
            self._rewrite(line)
        else:
            self._add(line)
        self.position = position

    def _add(self, line: bytes) -> None:
        fresh = not self._path.exists()
        with open(self._path, "ab") as file:
            # A torn last line must not swallow this one.
            file.write(b"\n" + line if file.tell() and not _ends_a_line(self._path) else line)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            sync_folder(self._path.parent)
        self._lines += 1

    def _rewrite(self, line: bytes) -> None:
        write_atomically(self._path, line)
        self._lines = 1


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a kill leaves either the old or the new one, whole. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names within ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pack(position: Position) -> bytes:
    text = json.dumps(to_plain(position), separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _newest(lines: list[bytes]) -> Position:
    for line in reversed(lines):
        position = _unpack(line)
        if position is not None:
            return position
    return Position()


def _unpack(line: bytes) -> Position | None:
    checksum, _, text = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        return from_plain(json.loads(text))
    except (ValueError, TypeError, KeyError, InvalidSpec):
        return None


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
