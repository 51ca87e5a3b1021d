"""Calls to a server as a client makes them: a deadline on each, patience with a server that is away, domain errors back.

A server that was never reached is given up after a moment; one that was there before is probably restarting, and is waited for up
to the deadline. Every call of the API may be repeated. Which calls there are is left to ``client`` and ``transfer``.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from edge_compress.errors import EdgeCompressError, InvalidSpec, StartupError, Unavailable
from edge_compress.status import from_rpc_error

T = TypeVar("T")

_log = logging.getLogger("edge_compress.client")
FIRST_CONTACT_SECONDS = 2.0
_LONGEST_PAUSE = 2.0
_CLOSE_SECONDS = 0.2
_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


@dataclass
class Backoff:
    """Pauses between attempts: doubling, with full jitter, until ``until`` (monotonic seconds)."""

    until: float
    chance: random.Random
    pause: float = 0.1

    def wait(self) -> bool:
        """Pause; False when there is no time left for another attempt."""
        seconds = self.chance.uniform(0, self.pause)
        if time.monotonic() + seconds >= self.until:
            return False
        time.sleep(seconds)
        self.pause = min(2 * self.pause, _LONGEST_PAUSE)
        return True


@dataclass
class Calls:
    """A channel to one server. ``timeout`` bounds each call with its repetitions, in seconds."""

    server: str
    timeout: float
    insecure: bool = False
    reached: bool = False
    """an answer came at least once"""
    chance: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        check_address(self.server, insecure=self.insecure)
        self.channel = grpc.insecure_channel(self.server, options=_CHANNEL_OPTIONS)

    def close(self) -> None:
        """Let go of the channel."""
        # In a thread: where an interrupt (Ctrl-C) broke off a call, grpc waits for the end of that call for ever.
        closing = threading.Thread(target=self.channel.close, name="close-channel", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def unary(self, method: Callable[..., T], request: Any, *, timeout: float | None = None) -> T:
        """The answer of one call. Raises the domain error that the server raised, or Unavailable."""
        return self.repeat(lambda left: method(request, timeout=left), timeout=timeout)

    def repeat(self, attempt: Callable[[float], T], *, timeout: float | None = None) -> T:
        """The result of ``attempt(seconds left)``, which is made again while the server is away. Raises domain errors."""
        end = time.monotonic() + (timeout or self.timeout)
        backoff = self.backoff(end)
        while True:
            try:
                result = attempt(max(0.001, end - time.monotonic()))
            except grpc.RpcError as failure:
                error = self.translated(failure)
                if not isinstance(error, Unavailable) or is_late(failure) or not backoff.wait():
                    raise error from failure
            else:
                self.reached = True
                return result

    def stream(self, call: Any) -> Iterator[Any]:
        """The messages of a streaming call, which is cancelled when the caller stops reading. Raises domain errors."""
        try:
            for message in call:
                self.reached = True
                yield message
        except grpc.RpcError as failure:
            raise self.translated(failure) from failure
        finally:
            call.cancel()

    def backoff(self, end: float) -> Backoff:
        """Pauses until ``end`` (monotonic seconds), or for a moment where the server was never reached."""
        return Backoff(end if self.reached else min(end, time.monotonic() + FIRST_CONTACT_SECONDS), self.chance)

    def translated(self, failure: grpc.RpcError) -> EdgeCompressError:
        """The domain error in a failed call, in words that say which server could not be reached."""
        error = from_rpc_error(failure)
        if isinstance(error, Unavailable) and not self.reached and not is_late(failure):
            return Unavailable(f"no server answers at {self.server}; start one with `edge-compress server`, or name another")
        return error


def is_late(failure: grpc.RpcError) -> bool:
    """Whether a call ran out of time, so that repeating it is pointless."""
    call: Any = failure
    return bool(call.code() is grpc.StatusCode.DEADLINE_EXCEEDED)


def check_address(server: str, *, insecure: bool) -> None:
    """Refuse an address beyond this machine unless ``insecure``, which is warned of. Raises InvalidSpec, StartupError."""
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidSpec.at("--server", server, "HOST:PORT, such as 127.0.0.1:50551")
    if is_loopback(host.strip("[]")):
        return
    if not insecure:
        raise StartupError(
            f"--server {server}: there is no mutual TLS yet, so only this machine is safe; add --insecure to go on"
        )
    _log.warning("the link to %s is neither encrypted nor authenticated (--insecure)", server)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
