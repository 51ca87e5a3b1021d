"""The demo's processes: real ``edge-compress`` commands, each with a log, none of which outlives the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from edge_compress.errors import StartupError

STOP_SECONDS = 8.0
MARKER = "EDGE_COMPRESS_DEMO"
"""environment variable that carries the demo's folder in each of its processes"""


class Cast:
    """The processes that play; leaving the ``with`` block ends every one, the last started first.

    Start them from the main thread: they are bound to the thread that starts them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._logs, self._temporary = folder, folder / "logs", folder / "tmp"
        self._players: dict[str, subprocess.Popen[bytes]] = {}
        self.strays: list[int] = []
        """processes that outlived the one that started them and had to be killed; known after ``close``"""
        for made in (self._logs, self._temporary):
            made.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Cast:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, name: str, *arguments: str) -> None:
        """Start ``edge-compress ARGUMENTS``; its output goes to ``logs/NAME.log``."""
        bound = [sys.executable, "-m", "edge_compress.demo.bound", str(os.getpid()), *self.command(*arguments)]
        with (self._logs / f"{name}.log").open("wb") as log:
            self._players[name] = subprocess.Popen(
                bound, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(), start_new_session=True
            )

    def command(self, *arguments: str) -> list[str]:
        """The command line of ``edge-compress ARGUMENTS`` in this environment."""
        return [sys.executable, "-m", "edge_compress", *arguments]

    def check(self) -> None:
        """Raise StartupError with its last words when a process has ended."""
        for name, player in self._players.items():
            if (code := player.poll()) is not None:
                raise StartupError(f"{name} ended with {code}: {self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """The last line that a process wrote."""
        lines = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")

    def close(self) -> None:
        """End every process: ask, wait, insist; then kill what those may have left."""
        players = list(reversed(self._players.values()))
        self._players.clear()
        for player in players:
            player.terminate()
            try:
                player.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                player.kill()
                player.wait()
        self.strays = processes_of(self._folder)
        for pid in self.strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        """Ours without settings of edge-compress, so that the user's own server and state are never touched, with temporary
        files where they go away with the demo, and without the telemetry that onnxruntime's wheels send since 1.29."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_COMPRESS_")}
        return {**kept, MARKER: str(self._folder), "TMPDIR": str(self._temporary), "ORT_DISABLE_TELEMETRY": "1"}


def processes_of(folder: Path) -> list[int]:
    """Ids of running processes whose environment or command line names ``folder``, this one excepted (Linux only)."""
    wanted, found = os.fsencode(folder), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if wanted in said and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def free_address() -> str:
    """A loopback address that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def until(deadline: float, what: str) -> None:
    """Pause before another look; raises StartupError when ``time.monotonic()`` is past ``deadline``."""
    if time.monotonic() > deadline:
        raise StartupError(f"waited too long for {what}")
    time.sleep(0.2)
