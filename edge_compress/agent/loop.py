"""Starts an agent: takes the state folder, and only then loads grpc and connects.

``run`` is for the command line and hands over to a process of its own, ``start`` is what that process does. ``app`` joins
the parts; this decides what must come first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_compress.agent.folder import StateFolder
from edge_compress.agent.setup import Setup, check_address, to_line
from edge_compress.agent.spawn import Spawned

if TYPE_CHECKING:
    from edge_compress.config import AgentSettings


def run(settings: AgentSettings) -> int:
    """Become an agent: this process goes on, under the same id, as a fresh interpreter without the command line's libraries,
    which an agent would otherwise hold for months. Raises StartupError for an unsafe address."""
    from edge_compress.agent.arguments import setup_of

    check_address(settings.server, settings.insecure)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "edge_compress.agent", to_line(setup_of(settings))])


def start(setup: Setup, spawned: Spawned) -> int:
    """Run an agent until SIGTERM or SIGINT; the exit code is 0 then. ``spawned`` is a model process that was started ahead.

    Raises StartupError when the agent cannot start or is refused.
    """
    check_address(setup.server, setup.insecure)
    folder = StateFolder(Path(setup.state))
    try:
        from edge_compress.agent.app import App  # asyncio and grpc: only now that the model process is on its way

        return App(setup, folder, spawned).run()
    finally:
        folder.release()
