"""The verbs that look: ``get`` and ``describe``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_compress.cli.options import (
    InsecureOption,
    LabelsOption,
    OutputOption,
    ServerOption,
    TimeoutOption,
    checked_output,
    connected,
)

if TYPE_CHECKING:
    from edge_compress.cli.kinds import Kind
    from edge_compress.client import Client
    from edge_compress.domain.resource import Change

_KIND_HELP = "profiles, models, recipes, deployments, jobs, artifacts, devices, rollouts or plugins; also KIND/NAME."


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command()(get)
    app.command()(describe)


def get(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=_KIND_HELP)],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.")] = None,
    output: OutputOption = "table",
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on with each change.")] = False,
    selector: LabelsOption = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Show resources."""
    from edge_compress.cli.printing import print_items
    from edge_compress.config import parse_labels

    shown, name = named(kind, name)
    labels = parse_labels(selector or "", "--selector")
    checked_output(output)
    with connected(server, timeout, insecure) as client:
        if watch:
            _follow(client, shown, name or "", labels, output)
        else:
            print_items(shown, _items(client, shown, name, labels), output, single=name is not None)


def describe(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=_KIND_HELP)],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which one.")] = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Show one resource in full.

    What was declared, its conditions, and for models and jobs every candidate with why it lost.
    """
    from edge_compress.cli.description import described
    from edge_compress.cli.printing import say
    from edge_compress.errors import InvalidSpec

    shown, name = named(kind, name)
    if name is None:
        raise InvalidSpec.at(
            "KIND NAME", shown.singular, f"the name of a {shown.singular}", f"see `edge-compress get {shown.singular}s`"
        )
    with connected(server, timeout, insecure) as client:
        say("\n".join(described(client, shown, name)))


def named(word: str, name: str | None) -> tuple[Kind, str | None]:
    """The kind and name in ``profile cam`` or ``profile/cam``. Raises InvalidSpec with the nearest kind."""
    from edge_compress.cli.kinds import kind_named

    head, slash, tail = word.partition("/")
    if name is None:
        return kind_named(head), tail if slash else None
    return kind_named(head), name.rpartition("/")[2]  # names have no slash: this is what `get -o name` printed


def _items(client: Client, kind: Kind, name: str | None, labels: dict[str, str]) -> list[Any]:
    if kind.kind == "Plugin":
        from edge_compress.errors import NotFound

        plugins = [item for item in client.plugins() if name in (None, item.name)]
        if name and not plugins:
            raise NotFound("Plugin", name)
        return plugins
    return [client.get(kind.kind, name)] if name else list(client.list(kind.kind, labels=labels))


def _follow(client: Client, kind: Kind, name: str, labels: dict[str, str], output: str) -> None:
    """Print what there is and each change, until interrupted."""
    from edge_compress.cli.printing import as_yaml, document, print_json, say
    from edge_compress.errors import InvalidSpec

    if kind.kind == "Plugin":
        raise InvalidSpec.at("--watch", kind.singular, "another kind", "plugins only change when the server starts")
    changes = _matching(client.watch(kind.kind, name), labels)
    if output in ("table", "wide"):
        _follow_table(client, kind, name, labels, changes, wide=output == "wide")
    for change in changes:
        plain = {"type": change.type, "object": document(change.resource)}
        if output == "json":
            say(json.dumps(plain, ensure_ascii=False))
        elif output == "yaml":
            say("---\n" + as_yaml(plain).rstrip("\n"))
        elif output == "name":
            say(f"{kind.singular}/{change.resource.name}")
        else:
            print_json(plain)


def _follow_table(
    client: Client, kind: Kind, name: str, labels: dict[str, str], changes: Iterable[Change], *, wide: bool
) -> None:
    """A table whose columns are as wide as what there is now, then a line for each change."""
    from edge_compress.cli.printing import cells, say, table, widths

    titles, rows = cells(kind, _matching_now(client, kind, name, labels), wide=wide)
    width = [max(10, size) for size in widths(titles, rows)]
    say(table(titles, [], width)[0])
    for change in changes:
        _, rows = cells(kind, [change.resource], wide=wide)
        line = table([], rows, width)[0]
        say(f"{line}   (deleted)" if change.type == "DELETED" else line)


def _matching(changes: Iterable[Change], labels: dict[str, str]) -> Iterable[Change]:
    wanted = labels.items()
    return (change for change in changes if wanted <= dict(change.resource.metadata.labels).items())


def _matching_now(client: Client, kind: Kind, name: str, labels: dict[str, str]) -> list[Any]:
    return [item for item in client.list(kind.kind, labels=labels) if name in ("", item.name)]
