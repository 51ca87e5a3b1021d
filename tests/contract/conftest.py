"""Every implementation of the store, so that one suite holds them all to the interface. A new one is a line in ``STORES``."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_compress.store.interface import Store

STORES = {"sqlite": "edge_compress.store.state:open_state"}
"""name -> ``module:function`` taking a folder and, optionally, ``keep_events``; opening a folder again finds what was there"""

SMALL_DISK_BYTES = 8 << 20


@pytest.fixture(params=sorted(STORES))
def opener(request: pytest.FixtureRequest) -> str:
    """How to open the implementation under test, in words that a child process understands too."""
    return STORES[request.param]


@pytest.fixture
def open_store(opener: str) -> Iterator[Callable[..., Store]]:
    """Opens stores and closes those that are still open at the end."""
    module, _, function = opener.partition(":")
    opened: list[Store] = []

    def open_one(folder: Path, **options: int) -> Store:
        opened.append(getattr(importlib.import_module(module), function)(folder, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store], tmp_path: Path) -> Store:
    return open_store(tmp_path / "state")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
