"""A real server in a process of its own, which tests may kill and start again on the same address and state."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS = 60.0


class ServerProcess:
    """``edge-compress server`` on loopback; ``address`` is known once it serves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.address = "127.0.0.1:0"
        self.metrics = ""

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"server-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "edge_compress", "server", "--listen", self.address, "--metrics-listen", "127.0.0.1:0"]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "--state", str(self._folder / "state")], stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"serving address=(\S+) metrics=(\S+)", log.read_text(errors="replace"))):
            assert self._process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, "the server did not serve in time"
            time.sleep(0.05)
        self.address, self.metrics = found[1], found[2]

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to stop, and insist after a while."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
