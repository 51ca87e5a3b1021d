"""A meter of the owner's own: a command that prints joules, or a URL that answers with joules or watts.

The command is started without a shell, and both are given a few seconds. Plain text is a number of joules, ``12.5 W`` one of
watts; JSON is ``{"joules": …}`` or ``{"watts": …}``. Joules are a counter; one that falls was begun anew.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable

from edge_compress.plugin import EnergyCounter, EnergyMeter, MeterSite, PowerIntegral

PATIENCE_SECONDS = 3.0
_MOST_BYTES = 4096
_PLAIN = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*(J|W)?")


class External(EnergyMeter):
    """A meter of the owner's own, by ``--meter-command`` or ``--meter-url``."""

    name = source = "external"

    def open(self, site: MeterSite) -> EnergyCounter:
        """Raises OSError where neither is given, or what it answers makes no sense."""
        if site.command:
            ask: Callable[[], str] = lambda: printed(site.command)  # noqa: E731
        elif site.url:
            ask = lambda: fetched(site.url)  # noqa: E731
        else:
            raise FileNotFoundError(errno.ENOENT, "neither --meter-command nor --meter-url is given")
        return _Watts(ask, site) if reading(ask())[1] == "W" else _Joules(ask)


class _Joules(EnergyCounter):
    resolution_seconds, sample_seconds, uncertainty = 0.2, 1.0, 0.05

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask, self._joules, self._last = ask, 0.0, reading(ask())[0]

    def read(self) -> float:
        """Joules since it was opened."""
        now, unit = reading(self._ask())
        if unit != "J":
            raise OSError("the external meter gave joules and now gives watts")
        self._joules += now - self._last if now >= self._last else now
        self._last = now
        return self._joules


class _Watts(EnergyCounter):
    resolution_seconds, sample_seconds, uncertainty = 0.2, 1.0, 0.1

    def __init__(self, ask: Callable[[], str], site: MeterSite) -> None:
        self._integral = PowerIntegral(lambda: reading(ask())[0], site, longest=7.0)

    def read(self) -> float:
        """Joules since it was opened."""
        return self._integral.read()


def reading(text: str) -> tuple[float, str]:
    """A figure and its unit, J or W. Raises OSError for anything else."""
    text = text.strip()
    plain = _PLAIN.fullmatch(text)
    value, unit = (float(plain[1]), plain[2] or "J") if plain else _of_json(text)
    if not math.isfinite(value) or value < 0:
        raise OSError(f"the external meter answered {text[:60]!r}; expected joules or watts of 0 or more")
    return value, unit


def _of_json(text: str) -> tuple[float, str]:
    try:
        found = json.loads(text)
        return (float(found["joules"]), "J") if "joules" in found else (float(found["watts"]), "W")
    except (ValueError, TypeError, KeyError):
        shown = f"the external meter answered {text[:60]!r}"
        raise OSError(f'{shown}; expected a number of joules, or {{"joules": …}} or {{"watts": …}}') from None


def printed(command: str) -> str:
    """What a command prints. Raises OSError where it fails or takes too long; it and what it started are killed then."""
    try:
        words = shlex.split(command)
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(words, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, start_new_session=True)
    except (OSError, ValueError, IndexError) as error:
        raise OSError(f"--meter-command {command!r}: {error}") from None
    with process:
        try:
            output = _output(process, time.monotonic() + PATIENCE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise OSError(f"--meter-command ended with code {process.returncode}")
    return output.decode(errors="replace")


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """What it printed until it ended, bounded in bytes and time."""
    assert process.stdout is not None
    descriptor, output = process.stdout.fileno(), b""
    while len(output) < _MOST_BYTES:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise OSError(f"--meter-command did not end within {PATIENCE_SECONDS:g} s")
        if not (piece := os.read(descriptor, _MOST_BYTES)):
            break
        output += piece
    try:
        process.wait(max(0.01, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise OSError(f"--meter-command did not end within {PATIENCE_SECONDS:g} s") from None
    return output


def fetched(url: str) -> str:
    """The answer of a URL. Raises OSError where there is none in time."""
    import http.client  # a megabyte that other meters do without
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"--meter-url answered {answer.status}")
        return answer.read(_MOST_BYTES).decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"--meter-url: {type(error).__name__}") from None
    finally:
        connection.close()
