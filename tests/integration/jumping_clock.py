"""Runs a module in a process whose wall clock is ahead by as many seconds as a file says at the moment.

python tests/integration/jumping_clock.py FILE MODULE [ARGUMENT]...
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def follow(ahead: Path) -> None:
    """Must come before anything else is imported that may keep ``time.time``."""
    real = time.time
    time.time = lambda: real() + float(ahead.read_text())


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(__file__).parents[2])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
