"""Starts a model process. Light on purpose: after a boot this comes before anything slow is loaded. ``child`` speaks to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Self

_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
"""one model and one caller: more heaps and numpy's own threads would only cost memory"""


class Spawned:
    """A model process that loads its libraries, and our end of the socket to it."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "edge_compress.agent.runner", str(theirs.fileno()), str(os.getpid())]
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **_ALLOCATOR},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def send(self, message: bytes) -> None:
        """Leave a message that the process finds when it is ready. It must be small enough for a socket's buffer."""
        self.connection.sendall(message)

    def kill(self) -> None:
        """End it; does nothing when it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.connection.close()
