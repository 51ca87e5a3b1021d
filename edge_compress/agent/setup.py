"""What an agent is started with, and how it is handed to a fresh process: one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Setup:
    """The agent's own copy of ``config.AgentSettings``, already checked: loading ``config`` would cost a device memory.

    ``heartbeat``, ``report`` (seconds) and ``self_test_rate`` (a second) are None where the server decides.
    """

    server: str
    profile: str
    name: str
    state: str
    labels: Mapping[str, str] = field(default_factory=dict)
    insecure: bool = False
    self_test_rate: float | None = None
    heartbeat: float | None = None
    report: float | None = None
    log_format: str = "text"


def to_line(setup: Setup) -> str:
    """The JSON of a setup."""
    return json.dumps(asdict(setup))


def from_line(line: str) -> Setup:
    """Read ``to_line`` back. Raises ValueError or TypeError."""
    return Setup(**json.loads(line))
