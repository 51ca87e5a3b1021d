"""How the agent's log lines look."""

from __future__ import annotations

import json
import logging
import sys


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def format(self, record: logging.LogRecord) -> str:
        """The object: time (seconds since the epoch), level, device, message."""
        said = {"level": record.levelname.lower(), "device": self._device, "message": record.getMessage()}
        return json.dumps({"time": record.created, **said})


def log_as(log_format: str, device: str) -> None:
    """Log to standard error, as ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(device) if log_format == "json" else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
