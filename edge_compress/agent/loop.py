"""Starts an agent: takes the state folder, has the last good model loading, and only then loads grpc and connects.

``run`` is for the command line and hands over to a process of its own, ``start`` is what that process does. ``app`` joins
the parts; this decides what must come first.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_compress.agent.folder import StateFolder
from edge_compress.agent.journal import Journal
from edge_compress.agent.report import Reports, restore
from edge_compress.agent.setup import Setup, to_line
from edge_compress.agent.slots import Slots
from edge_compress.agent.traffic import Traffic
from edge_compress.errors import StartupError

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
    _log_as(setup.log_format)
    if check_address(setup.server, setup.insecure):
        logging.getLogger("edge_compress.agent").warning("the link to %s is not encrypted (--insecure)", setup.server)
    folder = StateFolder(Path(setup.state))
    chance = random.Random()  # noqa: S311  # jitter, not a secret
    try:
        journal, slots = Journal(folder.journal), Slots(folder.path)
        reports = Reports(os.urandom(8).hex(), restore(folder.usage))
        traffic = Traffic(slots, reports, chance, setup.self_test_rate)
        try:
            traffic.serve(journal.position.serving)
            from edge_compress.agent.app import App  # grpc: only now that the model is on its way

            return App(setup, folder, journal, slots, reports, traffic, chance).run()
        finally:
            traffic.stop()
    finally:
        folder.release()


def check_address(server: str, insecure: bool) -> bool:
    """Whether ``server`` is beyond this machine. Raises StartupError when it is and ``insecure`` is not set."""
    host = server.rpartition(":")[0].strip("[]")
    if server.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127."):
        return False
    if not insecure:
        why = "is not on this machine and the link would not be encrypted"
        raise StartupError(f"--server {server} {why}; add --insecure to accept that")
    return True


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object: time (seconds since the epoch), level, message."""
        return json.dumps({"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()})


def _log_as(log_format: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
