"""Options that several verbs share, and what they lead to: a client, resources from files, labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_compress.client import Client
    from edge_compress.fleet_file import Declared

ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="HOST:PORT", help="The server. [env: EDGE_COMPRESS_SERVER; 127.0.0.1:50551]")
]
TimeoutOption = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Longest wait for one answer. [env: EDGE_COMPRESS_TIMEOUT; 30s]")
]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Talk to another machine without encryption.")]
FileOption = Annotated[
    list[str],
    typer.Option("-f", "--filename", metavar="FILE|DIR|-", help="Fleet file, folder of them, or -. Repeatable."),
]
OUTPUTS = ("table", "wide", "json", "yaml", "name")
OutputOption = Annotated[str, typer.Option("-o", "--output", metavar="|".join(OUTPUTS), help="How to print.")]
LabelsOption = Annotated[str | None, typer.Option("-l", "--selector", metavar="KEY=VALUE,…", help="Only with these labels.")]


def connected(server: str | None, timeout: str | None, insecure: bool) -> Client:
    """A client for the server that flags and environment name. Raises InvalidSpec naming the flag."""
    from edge_compress.client import Client
    from edge_compress.config import ClientSettings, load

    settings = load(ClientSettings, {"server": server, "timeout": timeout})
    return Client(settings.server, settings.timeout, insecure=insecure)


def declared_in(files: list[str]) -> list[Declared]:
    """Every resource of the files given. Raises InvalidSpec with file and line, NotFound, TooLarge."""
    from edge_compress.fleet_file import load_path, load_text, refuse_duplicates

    declared: list[Declared] = []
    for name in files:
        if name == "-":
            declared += load_text(sys.stdin.read(), file="<stdin>", folder=Path.cwd())
        else:
            declared += load_path(Path(name))
    refuse_duplicates(declared)
    if not declared:
        from edge_compress.errors import InvalidSpec

        raise InvalidSpec.at("--filename", ", ".join(files), "at least one resource")
    return declared


def checked_output(output: str) -> str:
    """``output`` when it is one we know. Raises InvalidSpec with the nearest one."""
    if output not in OUTPUTS:
        from edge_compress.domain.schema import unknown_name

        raise unknown_name("--output", output, OUTPUTS, "output")
    return output
