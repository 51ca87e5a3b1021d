"""Log lines for people and for machines."""

import json
import logging
import sys

import pytest

from edge_compress.config import LOG_FORMATS
from edge_compress.server import logs


def record(message="call", fields=None, error=None):
    made = logging.LogRecord("edge_compress.server", logging.INFO, "f.py", 1, message, (), error)
    if fields:
        made.fields = fields
    return made


def test_text_lines_quote_what_needs_it():
    line = logs.LineFormatter("text").format(record(fields={"code": "OK", "message": 'two "words"', "empty": ""}))
    assert line.endswith(' call code=OK message="two \\"words\\"" empty=""')
    assert "\n" not in line


def test_json_lines_carry_fields_and_tracebacks():
    try:
        raise ValueError("why")
    except ValueError:
        error = sys.exc_info()
    entry = json.loads(logs.LineFormatter("json").format(record(fields={"seconds": 0.5}, error=error)))
    assert (entry["event"], entry["level"], entry["seconds"]) == ("call", "INFO", 0.5)
    assert "ValueError: why" in entry["traceback"]


@pytest.mark.parametrize("style", LOG_FORMATS)
def test_every_configured_format_is_known(style):
    assert style in logs.FORMATS
