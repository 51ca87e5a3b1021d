"""``edge-compress top``: the fleet at a glance, again every two seconds.

On a terminal it takes the screen and gives it back; elsewhere it prints plain lines. What is shown comes in one small answer of
the server, however many devices there are; how it looks is ``glance``'s business.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from edge_compress.cli.options import InsecureOption, ServerOption, TimeoutOption, connected

if TYPE_CHECKING:
    from rich.text import Text

    from edge_compress.client import Client

_LOOK_SECONDS = 2.0
_OUTPUTS = ("table", "json")


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(top)


def top(
    once: Annotated[bool, typer.Option("--once", help="Show it one time and end.")] = False,
    output: Annotated[str, typer.Option("-o", "--output", metavar="|".join(_OUTPUTS), help="How to print.")] = "table",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Show the fleet live: latency, energy and state by profile.

    Figures are of the last minute. Ctrl-C ends it.
    """
    if output not in _OUTPUTS:
        from edge_compress.domain.schema import unknown_name

        raise unknown_name("--output", output, _OUTPUTS, "output")
    with connected(server, timeout, insecure) as client:
        if once:
            _print(client, output)
            return
        try:
            if output == "table" and _has_screen():
                _on_screen(client)
            else:
                _print_for_ever(client, output)
        except KeyboardInterrupt:  # the way to leave it
            return


def _has_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _print(client: Client, output: str, *, compact: bool = False) -> None:
    from edge_compress.cli.printing import print_json, say

    if output == "table":
        say("\n".join(_lines(client)))
    elif compact:
        say(json.dumps(dataclasses.asdict(client.overview()), ensure_ascii=False))
    else:
        print_json(dataclasses.asdict(client.overview()))


def _print_for_ever(client: Client, output: str) -> None:
    """JSON: a line each time. Text: an empty line between."""
    from edge_compress.cli.printing import say

    while True:
        _print(client, output, compact=True)
        time.sleep(_LOOK_SECONDS)
        if output == "table":
            say("")


def _on_screen(client: Client) -> None:
    """The terminal's other screen, drawn over line by line so that nothing flickers. While the server is away, what was last seen
    stays."""
    from rich.console import Console
    from rich.live import Live

    from edge_compress.errors import Unavailable

    lines = _lines(client)  # whatever is wrong with the server is said before the screen is taken
    with Live(console=Console(), screen=True, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_fitting(lines), refresh=True)
            time.sleep(_LOOK_SECONDS)
            try:
                lines = _lines(client)
            except Unavailable as error:
                lines = [f"as last seen; {error}", *lines[1:]]


def _lines(client: Client) -> list[str]:
    from edge_compress.cli.glance import overview_lines

    return overview_lines(client.overview(), time.time())


def _fitting(lines: list[str]) -> Text:
    """The lines that the terminal has room for, cut at its edge; the last one tells how many more there are."""
    from rich.text import Text

    width, height = shutil.get_terminal_size()
    if len(lines) > height:
        lines = [*lines[: height - 1], f"… {len(lines) - height + 1} more lines; --once prints all"]
    return Text("\n".join(line[:width] for line in lines), no_wrap=True, overflow="crop")
