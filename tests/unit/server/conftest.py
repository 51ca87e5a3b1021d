"""A store in a folder, an engine that computes nothing, and patience with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.store.sqlite import SqliteStore
from edge_compress.store.state import open_state
from tests.unit.server.quick_engine import QuickEngine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An empty store."""
    opened = open_state(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def engine(store: SqliteStore) -> QuickEngine:
    """An engine over the store."""
    return QuickEngine(store)


@pytest.fixture
def until():
    """Waits until a condition holds; fails after a deadline."""

    async def wait(condition, seconds: float = 10.0):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not come true in time"
            await asyncio.sleep(0.01)
        return found

    return wait
