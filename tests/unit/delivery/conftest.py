"""A real store in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.store.sqlite import SqliteStore
from edge_compress.store.state import open_state


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_state(tmp_path / "state")
    yield opened
    opened.close()
