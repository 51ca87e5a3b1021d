"""Small file systems that a test may fill."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, mebibytes: int = 8) -> Iterator[Path]:
    """A file system of its own at ``folder``; the test is skipped where none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all room but ``leave`` bytes; somebody else may take some of it meanwhile."""
    room = os.statvfs(disk)
    path = disk / ("filler" if leave else "rest")
    try:
        path.write_bytes(b"\1" * (room.f_bavail * room.f_frsize - leave))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    return path
