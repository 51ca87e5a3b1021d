"""A network link between an agent and its server that a test can stop and cut."""

from __future__ import annotations

import contextlib
import math
import socket
import threading

_PIECE = 16 * 1024
_AGAIN_SECONDS = 0.02


class Link:
    """Listens on ``port`` and passes on what comes, over connections of its own to ``target`` (HOST:PORT), for which it waits."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._turn = threading.Condition()
        self._left: float = math.inf
        self._later: list[float] = []
        self._cuts = False
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._threads = [self._start(self._accept)]

    def hold_after(self, count: int) -> None:
        """Let so many bytes more come from the server, then none until ``flow``; what the agent says goes on."""
        self._allow(count, cuts=False)

    def cut_after(self, *counts: int) -> None:
        """Let so many bytes more come from the server, then cut every connection; then after each further count."""
        self._allow(*counts, math.inf, cuts=True)

    def flow(self) -> None:
        """Let everything through."""
        self._allow(math.inf, cuts=False)

    def close(self) -> None:
        """Cut everything for good."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.flow()
        self._cut()
        for thread in self._threads:
            thread.join(10)

    def _allow(self, *counts: float, cuts: bool) -> None:
        with self._turn:
            (self._left, *self._later), self._cuts = counts, cuts
            self._turn.notify_all()

    def _start(self, work, *arguments) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(near)
            self._threads.append(self._start(self._carry, near))

    def _carry(self, near: socket.socket) -> None:
        """Both ways over a connection of its own."""
        far = self._reached()
        if far is None:
            self._end(near)
            return
        self._open.add(far)
        self._threads.append(self._start(self._down, far, near))
        with contextlib.suppress(OSError):
            while data := near.recv(_PIECE):
                far.sendall(data)
        self._end(near, far)

    def _reached(self) -> socket.socket | None:
        """A connection to the server, once it answers: agents need not wait for their next try when it starts again."""
        while not self._closed.wait(_AGAIN_SECONDS):
            far = socket.socket()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)  # little is on its way when it is cut
            try:
                far.connect(self._target)
            except OSError:
                far.close()
            else:
                return far
        return None

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(self._room()):
                near.sendall(data)
                self._use(len(data))
        self._end(near, far)

    def _room(self) -> int:
        """How much may come now; waits while that is nothing."""
        with self._turn:
            self._turn.wait_for(lambda: self._left > 0)
            return int(min(self._left, _PIECE))

    def _use(self, count: int) -> None:
        with self._turn:
            self._left = max(0, self._left - count)
            cut = self._left == 0 and self._cuts
            if cut:
                self._left, *self._later = self._later
        if cut:
            self._cut()

    def _cut(self) -> None:
        self._end(*self._open)

    def _end(self, *sockets: socket.socket) -> None:
        for item in sockets:
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()
            self._open.discard(item)
