"""Serves ``/metrics`` from threads of its own, so that a scrape never waits for the event loop nor holds it up.

OpenMetrics is negotiated by the Accept header. What the series are is ``metrics``'s business.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from edge_compress.errors import StartupError
from edge_compress.metrics import Metrics


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news."""


class MetricsServer:
    """An HTTP server for ``metrics`` on ``host``:``port``; port 0 takes a free one. Raises StartupError when it cannot listen."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _QuietHandler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise StartupError(f"--metrics-listen {host}:{port}: {why}; choose another address with --metrics-listen") from error
        self._server.set_app(make_wsgi_app(metrics.registry))
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
