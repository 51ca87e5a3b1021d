"""The verbs about the product itself: ``plugins``, ``schema``, ``demo`` and ``version``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_compress.cli.options import InsecureOption, OutputOption, ServerOption, TimeoutOption, checked_output, connected

if TYPE_CHECKING:
    from edge_compress.domain.resource import Plugin

plugins_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See what plugins add.")


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.add_typer(plugins_app, name="plugins")
    app.command()(schema)
    app.command()(demo)
    app.command()(version)


@plugins_app.command("list")
def list_plugins(
    output: OutputOption = "table",
    server: Annotated[str | None, typer.Option("--server", help="Ask this server; absent: look at this installation.")] = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """List plugins, what each adds with its parameters (-o wide), and why a broken one is broken."""
    from edge_compress.cli.kinds import kind_named
    from edge_compress.cli.printing import print_items

    checked_output(output)
    plugins = _asked(server, timeout, insecure) if server else _installed()
    if output == "wide":
        from edge_compress.cli.description import plugin_rows
        from edge_compress.cli.printing import say

        say("\n".join(plugin_rows(plugins)))
    else:
        print_items(kind_named("plugin"), plugins, output, single=False)


def schema() -> None:
    """Print the JSON Schema of a fleet file, for editors."""
    from edge_compress.cli.printing import print_json
    from edge_compress.domain.spec import document_schema

    print_json(document_schema())


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and the artifacts.")] = Path("demo-out"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the server's state and the logs.")] = False,
) -> None:
    """Play the whole story, with real processes.

    Compress, deliver, run, measure: about a minute.
    """
    from edge_compress.cli.demo import run

    raise typer.Exit(run(out, keep))


def version() -> None:
    """Print the version."""
    from edge_compress import __version__
    from edge_compress.cli.printing import say

    say(f"edge-compress {__version__}")


def _asked(server: ServerOption, timeout: TimeoutOption, insecure: bool) -> list[Plugin]:
    with connected(server, timeout, insecure) as client:
        return list(client.plugins())


def _installed() -> list[Plugin]:
    from edge_compress.plugin.registry import Registry
    from edge_compress.server.plugin_list import plugins_of

    return list(plugins_of(Registry.load()))
