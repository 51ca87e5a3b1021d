"""A real Prometheus on loopback, asked over its HTTP API. Tests that use it skip where Debian's package is not installed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest


def skip_unless_installed() -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("Debian's prometheus package is not installed")


class Prometheus:
    """A process that scrapes ``target`` (host:port) each second and evaluates rule files as often."""

    def __init__(self, folder: Path, target: str, rules: tuple[Path, ...] = ()) -> None:
        self.port = _free_port()
        config = folder / "prometheus.yml"
        job = {"job_name": "edge-compress", "static_configs": [{"targets": [target]}]}
        often = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config.write_text(json.dumps({"global": often, "rule_files": [str(path) for path in rules], "scrape_configs": [job]}))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression; none while Prometheus starts."""
        try:
            return self.ask("query", query=expression)["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return []
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        except (urllib.error.URLError, ConnectionError):
            return []

    def value(self, expression: str) -> float | None:
        """The one value of an expression; None while there is none, or while Prometheus starts."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
