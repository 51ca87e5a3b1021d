"""The verbs that change one thing: ``delete`` and ``cancel``."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_compress.cli.options import InsecureOption, ServerOption, TimeoutOption, connected, declared_in


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command()(delete)
    app.command()(cancel)


def delete(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Kind, or KIND/NAME.")] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Names.")] = None,
    filename: Annotated[
        list[str] | None, typer.Option("-f", "--filename", metavar="FILE|DIR|-", help="Everything that a fleet file declares.")
    ] = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Remove resources. What others still need is refused."""
    from edge_compress.cli.kinds import singular
    from edge_compress.cli.printing import say

    targets = _in_files(filename) if filename else _named(kind, names or [])
    with connected(server, timeout, insecure) as client:
        for one, name in targets:
            client.delete(one, name)
            say(f"{singular(one)}/{name} deleted")


def cancel(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Name of the job.")],
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Stop a compression job. Its finished steps stay cached."""
    from edge_compress.cli.printing import say

    name = job.removeprefix("job/")
    with connected(server, timeout, insecure) as client:
        say(f"job/{name} {client.cancel_job(name).status.state.lower()}")


def _in_files(files: list[str]) -> list[tuple[str, str]]:
    """What the files declare, deployments first: the reverse of the order in which it was applied."""
    from edge_compress.domain.spec import KINDS

    order = list(KINDS)
    declared = sorted(declared_in(files), key=lambda item: order.index(item.kind), reverse=True)
    return [(item.kind, item.resource.name) for item in declared]


def _named(word: str | None, names: list[str]) -> list[tuple[str, str]]:
    from edge_compress.cli.look import named
    from edge_compress.errors import InvalidSpec

    if word is None:
        raise InvalidSpec.at("--filename", None, "KIND NAME, KIND/NAME or -f FILE")
    kind, name = named(word, None)
    every = [*([name] if name else []), *names]
    if not every:
        raise InvalidSpec.at(
            "KIND NAME", kind.singular, f"the name of a {kind.singular}", f"see `edge-compress get {kind.singular}s`"
        )
    return [(kind.kind, one.rpartition("/")[2]) for one in every]
