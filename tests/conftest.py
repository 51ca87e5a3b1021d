"""Fixtures for every test: the team's shared data where it is there, and a stranger's plugin that needs no installing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A job in a shell's background ignores Ctrl-C, and so would every process that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
STRANGERS = Path(__file__).parent / "strangers"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real models and data; tests that use it are marked ``shared_data`` and skip where it is absent."""
    folder = Path(os.environ.get("EDGE_COMPRESS_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not on this machine (EDGE_COMPRESS_SHARED)")
    return folder


@pytest.fixture
def hostile_plugin(tmp_path: Path) -> Iterator[Path]:
    """Makes ``tests/strangers/hostile`` findable here and in child processes, as an installed distribution would be."""
    site = tmp_path / "site"
    info = site / "edge_compress_hostile-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edge-compress-hostile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edge_compress]\nhostile = edge_compress_hostile\nunimportable = edge_compress_unimportable\n"
    )
    source = STRANGERS / "hostile"
    for name in ("edge_compress_hostile.py", "edge_compress_unimportable.py"):
        (site / name).symlink_to(source / name)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), before]))
    sys.path.insert(0, str(site))
    yield site
    sys.path.remove(str(site))
    sys.modules.pop("edge_compress_hostile", None)
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
