"""The least that can send a file over this machine's loopback: nginx and a bare ``os.sendfile`` loop; clients that only count.

Every server runs in processes of its own, whose processor time is taken before and after; the clients run in others and all
start at once. What is sent is read from the page cache: no disk is measured.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import children_of, processor_seconds

CLIENT_PROCESSES = 2
_READ_BYTES = 512 * 1024
_START_SECONDS = 60.0
_SPAWN = multiprocessing.get_context("spawn")
Fetch = Callable[[int], int]
"""what a process of clients does: (how many clients) -> bytes that they got together; crosses to the process by pickle"""


@dataclass(frozen=True)
class Run:
    """Some clients' downloads: seconds from first request to last byte, bytes on the link, the server's processor seconds."""

    seconds: float
    sent: int
    processor: float

    @property
    def megabytes_a_second(self) -> float:
        """Of all clients together."""
        return self.sent / 1e6 / self.seconds

    @property
    def processor_a_gigabyte(self) -> float:
        """Processor seconds of the server."""
        return self.processor / (self.sent / 1e9)


@dataclass(frozen=True)
class Peer:
    """A server that sends one file to whoever connects."""

    port: int
    pids: tuple[int, ...]


def measured(pids: tuple[int, ...], fetch: Fetch, clients: int) -> Run:
    """Let so many clients fetch at once, divided among ``CLIENT_PROCESSES``."""
    go, answers = _SPAWN.Barrier(CLIENT_PROCESSES + 1), _SPAWN.SimpleQueue()
    each = clients // CLIENT_PROCESSES
    children = [_SPAWN.Process(target=_client, args=(fetch, each, go, answers), daemon=True) for _ in range(CLIENT_PROCESSES)]
    for child in children:
        child.start()
    go.wait(_START_SECONDS)
    before, began = processor_seconds(*pids), time.perf_counter()
    got = [answers.get() for _ in children]
    seconds, used = time.perf_counter() - began, processor_seconds(*pids) - before
    for child in children:
        child.join()
    if failed := [answer for answer in got if isinstance(answer, str)]:
        raise SystemExit(f"clients failed: {failed[0]}")
    return Run(seconds, sum(got), used)


def _client(fetch: Fetch, clients: int, go: Any, answers: Any) -> None:
    go.wait(_START_SECONDS)
    try:
        answers.put(fetch(clients))
    except Exception as error:
        answers.put(repr(error))


@dataclass(frozen=True)
class OverHttp:
    """Clients, a thread each, that get a file so many times, over a new connection each time."""

    port: int
    times: int

    def __call__(self, clients: int) -> int:
        """See ``Fetch``."""
        with ThreadPoolExecutor(clients) as threads:
            return sum(threads.map(lambda _: self._one(), range(clients)))

    def _one(self) -> int:
        buffer = bytearray(_READ_BYTES)
        return sum(self._get(buffer) for _ in range(self.times))

    def _get(self, buffer: bytearray) -> int:
        got = 0
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"GET /blob HTTP/1.0\r\n\r\n")
            while read := connection.recv_into(buffer):
                got += read
        return got


@contextlib.contextmanager
def sendfile_server(file: Path) -> Iterator[Peer]:
    """A process that answers every connection with the file, a thread each."""
    here, there = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(file, there), daemon=True)
    process.start()
    try:
        assert process.pid is not None
        yield Peer(here.recv(), (process.pid,))
    finally:
        process.terminate()
        process.join()


def _serve(file: Path, started: Any) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    started.send(listening.getsockname()[1])
    with file.open("rb") as opened:
        size = file.stat().st_size
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_answer, args=(connection, opened.fileno(), size), daemon=True).start()


def _answer(connection: socket.socket, file: int, size: int) -> None:
    with connection, contextlib.suppress(ConnectionError):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        offset = 0
        while offset < size:
            offset += os.sendfile(connection.fileno(), file, offset, size - offset)


_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@contextlib.contextmanager
def nginx(file: Path, folder: Path) -> Iterator[Peer | None]:
    """nginx with one worker, sending ``file``, which must be called ``blob``; None where it is not installed."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        yield None
        return
    folder.mkdir(mode=0o755)
    port = _free_port()
    (folder / "nginx.conf").write_text(_user() + _NGINX.format(folder=folder, root=file.parent, port=port))
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf")])
    try:
        _wait_for(port)
        yield Peer(port, (process.pid, *children_of(process.pid)))
    finally:
        process.terminate()
        process.wait()


def _user() -> str:
    """Its worker reads what we may read: started by root it would else become somebody who may not."""
    return "user root;\n" if os.geteuid() == 0 else ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
