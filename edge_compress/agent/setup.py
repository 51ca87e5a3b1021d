"""What an agent is started with, and how it is handed to a fresh process: one line of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from edge_compress.errors import StartupError

_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}\Z")


@dataclass(frozen=True)
class Setup:
    """The agent's own copy of ``config.AgentSettings``, already checked: loading ``config`` would cost a device memory.

    ``heartbeat``, ``report`` (seconds) and ``self_test_rate`` (a second) are None where the server decides; ``memory_budget``
    (bytes) where there is no limit.
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
    memory_budget: int | None = None
    min_battery: float = 0.2
    maintenance_window: str = ""
    meter: str = "auto"
    meter_command: str = ""
    meter_url: str = ""


def to_line(setup: Setup) -> str:
    """The JSON of a setup."""
    return json.dumps(asdict(setup))


def from_line(line: str) -> Setup:
    """Read ``to_line`` back. Raises ValueError or TypeError."""
    return Setup(**json.loads(line))


def check_address(server: str, insecure: bool) -> bool:
    """Whether ``server`` is beyond this machine. Raises StartupError when it is and ``insecure`` is not set."""
    host = server.rpartition(":")[0].strip("[]")
    if server.startswith("unix:") or host in ("localhost", "::1") or _LOOPBACK.match(host):
        return False
    if not insecure:
        why = "is not on this machine and the link would not be encrypted"
        raise StartupError(f"--server {server} {why}; add --insecure to accept that")
    return True
