"""How the agent's log lines look."""

from __future__ import annotations

import json
import logging
import sys


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object: time (seconds since the epoch), level, message."""
        return json.dumps({"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()})


def log_as(log_format: str) -> None:
    """Log to standard error, as ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
