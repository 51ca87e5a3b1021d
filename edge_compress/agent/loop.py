"""Starts an agent: takes the state folder, has the last good model loading, and only then loads grpc and connects.

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
    check_address(settings.server, settings.insecure)
    setup = Setup(
        server=settings.server,
        profile=settings.profile,
        name=settings.name,
        state=str(settings.state.absolute()),
        labels=dict(settings.labels),
        insecure=settings.insecure,
        self_test_rate=settings.self_test_rate,
        heartbeat=settings.heartbeat,
        report=settings.report,
        log_format=settings.log_format,
    )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "edge_compress.agent", to_line(setup)])


def start(setup: Setup) -> int:
    """Run an agent until SIGTERM or SIGINT; the exit code is 0 then. Raises StartupError when it cannot start or is refused."""
    check_address(setup.server, setup.insecure)
    folder = StateFolder(Path(setup.state))
    spawned = Spawned() if folder.has_model else None
    try:
        from edge_compress.agent.app import App  # asyncio and grpc: only now that the model process is on its way

        return App(setup, folder, spawned).run()
    finally:
        if spawned is not None:
            spawned.kill()
        folder.release()
