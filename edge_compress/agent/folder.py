"""The folder that holds all an agent knows: one agent at a time, and the names of what lies in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edge_compress.errors import StartupError


class StateFolder:
    """A folder that this process has for itself until it ends. Raises StartupError when another agent has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupError(f"the state folder {path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StartupError(f"another agent uses the state folder {path}; give this one its own with --state") from None

    @property
    def journal(self) -> Path:
        """Positions."""
        return self.path / "journal"

    @property
    def usage(self) -> Path:
        """Totals that the server may lack."""
        return self.path / "usage.json"

    def release(self) -> None:
        """Let another agent have it."""
        os.close(self._lock)
