"""Serves ``/metrics`` and ``/metrics/devices`` from threads of its own, so that a scrape never waits for the event loop nor holds
it up.

OpenMetrics is negotiated by the Accept header. Only the page of the fleet is packed for who accepts it: that of single devices is
ten megabytes for ten thousand, which would take longer to pack than to make. What the series are is ``metrics``'s and
``device_metrics``'s business.
"""

from __future__ import annotations

import gzip
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from edge_compress.device_metrics import DeviceMetrics
from edge_compress.errors import StartupError
from edge_compress.exposition import OPENMETRICS, Family, content_type, page
from edge_compress.metrics import Metrics

_PACKING = 1
"""gzip level: lines are so alike that higher ones take five times as long for a third less"""
_TEXT = "text/plain; charset=utf-8"
_Start = Callable[[str, list[tuple[str, str]]], object]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class QuietHandler(WSGIRequestHandler):
    """Answers without a word on stderr."""

    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news."""


class MetricsServer:
    """An HTTP server for the series on ``host``:``port``; port 0 takes a free one. Without ``devices`` there is no page of single
    devices. Raises StartupError when it cannot listen."""

    def __init__(self, metrics: Metrics, host: str, port: int, devices: DeviceMetrics | None = None) -> None:
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), QuietHandler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise StartupError(f"--metrics-listen {host}:{port}: {why}; choose another address with --metrics-listen") from error
        self._metrics, self._devices = metrics, devices
        self._server.set_app(self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].rstrip("/")
        if environ["REQUEST_METHOD"] != "GET":
            return _said(start, "405 Method Not Allowed", "only GET works here", ("Allow", "GET"))
        if path == "/metrics":
            packed = "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
            return _served(start, self._metrics.families(), environ.get("HTTP_ACCEPT", ""), packed=packed)
        if path != "/metrics/devices":
            return _said(start, "404 Not Found", "there are /metrics and /metrics/devices")
        if self._devices is None:
            return _said(start, "404 Not Found", "the server was started without --device-metrics")
        return _served(start, self._devices.families(), environ.get("HTTP_ACCEPT", ""), packed=False)


def _served(start: _Start, families: Iterable[Family], accept: str, *, packed: bool) -> list[bytes]:
    kind = content_type(accept)
    pieces = list(page(families, openmetrics=kind.startswith(OPENMETRICS)))
    headers = [("Content-Type", kind)]
    if packed:
        pieces = [gzip.compress(b"".join(pieces), _PACKING)]
        headers.append(("Content-Encoding", "gzip"))
    start("200 OK", [*headers, ("Content-Length", str(sum(map(len, pieces))))])
    return pieces


def _said(start: _Start, status: str, text: str, *headers: tuple[str, str]) -> list[bytes]:
    start(status, [("Content-Type", _TEXT), *headers])
    return [f"{text}\n".encode()]
