from __future__ import annotations

import json
import logging
import subprocess
import sys

SCRIPT = """
import logging
from edge_compress.agent.log import log_as
log_as({style!r}, "cam-01")
logging.getLogger("edge_compress.agent").warning("it is %s", "so")
"""


def said(style: str) -> str:
    """What an agent that logs like that writes."""
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(style=style)], capture_output=True, text=True, check=True)
    return done.stderr


def test_a_line_of_json_names_the_device() -> None:
    entry = json.loads(said("json"))
    assert entry.pop("time") > 1e9
    assert entry == {"level": logging.getLevelName(logging.WARNING).lower(), "device": "cam-01", "message": "it is so"}


def test_text_is_for_people() -> None:
    assert said("text").endswith(" it is so\n")
