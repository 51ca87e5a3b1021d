"""The ``compress`` verb: a fleet file to artifacts in one go, in this process, with no server."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_compress.cli.options import declared_in

_WIDE = 140
"""columns of a terminal from which layers are told too"""


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(compress)


def compress(
    filename: Annotated[str, typer.Option("-f", "--filename", metavar="FILE|DIR|-", help="Fleet file, folder of them, or -.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for artifacts and reports; a second run goes on from it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time for each model, such as 10m; best so far is kept."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
) -> None:
    """Compress a fleet file here, without a server.

    What the Deployments in it select; without any, every model for every profile. Exit 3 when a goal cannot be met.
    """
    from edge_compress.cli.printing import note, print_json, say

    report = _compressed(filename, out, _budget(budget), seed)
    if as_json:
        print_json(report)
    else:
        say("\n".join(report_table(report, wide=shutil.get_terminal_size().columns >= _WIDE)))
        note(f"\nartifacts and report.json in {out}; open {out / 'report.html'} for the picture")
    raise typer.Exit(3 if infeasible(report) else 0)


def report_table(report: Mapping[str, Any], wide: bool = False) -> list[str]:
    """One line a pair, and beneath what bound those that cannot be met; where it is ``wide`` what stands out of their layers."""
    from edge_compress.cli.description import figures_of, layer_lines
    from edge_compress.cli.printing import table
    from edge_compress.report_page import figures

    titles = ("MODEL", "PROFILE", "VERDICT", "SIZE", "QUALITY", "DROP", "P95", "MEMORY", "ENERGY", "DOWNLOAD", "RECIPE")
    pairs = list(_pairs(report))
    rows = [
        (
            model,
            profile,
            entry["verdict"],
            *figures_of(entry),
            figures.size(entry.get("download_bytes")),
            figures.recipe(entry["recipe"]),
        )
        for model, profile, entry in pairs
    ]
    bound = [
        f"{model} for {profile}: bound by {entry['binding_constraint']}: {entry['gap']}"
        for model, profile, entry in pairs
        if entry["verdict"] == "INFEASIBLE"
    ]
    heavy = [f"{model} for {profile}: {line}" for model, profile, entry in pairs for line in layer_lines(entry) if wide]
    return [*table(titles, rows), *([""] if bound else []), *bound, *([""] if heavy else []), *heavy]


def infeasible(report: Mapping[str, Any]) -> bool:
    """Whether any pair's goals cannot be met."""
    return any(entry["verdict"] == "INFEASIBLE" for _, _, entry in _pairs(report))


def _compressed(filename: str, out: Path, budget: float | None, seed: int) -> dict[str, Any]:
    from edge_compress.cli.progress import bars
    from edge_compress.report_page import write_report
    from edge_compress.worker.oneshot import compress_fleet

    declared = declared_in([filename])
    places = {(item.kind, item.resource.name): item for item in declared}
    with bars() as shown:
        report = compress_fleet(
            [item.resource for item in declared],
            root=declared[0].folder,
            out=out,
            budget_seconds=budget,
            progress=lambda model, profile, fraction, message: shown.show(f"{model}/{profile}", fraction, message),
            seed=seed,
            where=lambda resource, error: places[type(resource).__name__, resource.name].where(error),
        )
    write_report(report, out / "report.html")
    return report


def _pairs(report: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [
        (model, profile, result) for model, entry in report["models"].items() for profile, result in entry["profiles"].items()
    ]


def _budget(text: str | None) -> float | None:
    from edge_compress.domain.quantity import SECONDS
    from edge_compress.errors import InvalidSpec

    if text is None:
        return None
    seconds = SECONDS.parse(text, "--budget")
    if not seconds:
        raise InvalidSpec.at("--budget", text, "more than zero", "leave it out to have no limit")
    return seconds
