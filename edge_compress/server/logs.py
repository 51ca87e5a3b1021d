"""One line per event on standard error: as text for people, or as JSON for machines. What is logged is each module's business."""

from __future__ import annotations

import json
import logging
import sys
import time

FORMATS = ("text", "json")


class LineFormatter(logging.Formatter):
    """Time, level, logger, message and the record's ``fields``; tracebacks follow in text and are a field in JSON."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields = getattr(record, "fields", {})
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._json:
            entry = {"time": moment, "level": record.levelname, "logger": record.name, "event": record.getMessage(), **fields}
            return json.dumps({**entry, "traceback": trace} if trace else entry, default=str)
        said = " ".join([record.getMessage(), *(f"{key}={_quoted(value)}" for key, value in fields.items())])
        return f"{moment} {record.levelname:<7} {said}" + (f"\n{trace}" if trace else "")


def configure(style: str, level: int = logging.INFO) -> None:
    """Send the product's log lines to standard error in ``style``, one of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(style))
    logger = logging.getLogger("edge_compress")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(mark in text for mark in ' "=\n') else text
