"""How the demo looks: the table at the end and the lines around it. Progress is ``cli.progress``'s business."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_compress.report_page import figures

PLAIN_WIDTH = 150
COLUMNS = ("profile", "verdict", "size", "download", "top-1", "drop", "p95", "peak memory", "energy", "recipe")


def console() -> Console:
    """Standard output; wide enough for the table where there is no terminal to fit into."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def results(report: Mapping[str, Any]) -> Table:
    """What each profile got: one row a profile."""
    table = Table(*COLUMNS, header_style="bold", box=None, pad_edge=False)
    for entry in report["models"].values():
        for name, result in entry["profiles"].items():
            good = result["verdict"] == "FEASIBLE"
            cells = [escape(name), f"[{'green' if good else 'red'}]{result['verdict']}[/]", *map(escape, _cells(result))]
            table.add_row(*cells)
    return table


def shortfalls(report: Mapping[str, Any]) -> Iterable[str]:
    """A line for each profile whose goals cannot be met."""
    for entry in report["models"].values():
        for name, result in entry["profiles"].items():
            if result["verdict"] != "FEASIBLE":
                yield f"{name} is INFEASIBLE by {result['binding_constraint']}: {result['gap']}; the nearest artifact is kept"


def device_line(name: str, status: Any, inferences: float, joules: float) -> str:
    """What a device runs and what that costs there, in a line."""
    p95, each = figures.milliseconds(1000 * status.p95_seconds), figures.millijoules(1000 * joules / inferences)
    runs = f"{inferences:.0f} inferences of {status.model} {status.version}"
    return f"{name}: {runs}, p95 {p95}, {each} each ({status.energy_source})"


def _cells(result: Mapping[str, Any]) -> list[str]:
    quality, latency, energy = (result.get(key) or {} for key in ("quality", "latency_ms", "energy_mj"))
    metric = str(quality.get("metric"))
    joules = figures.millijoules(energy.get("value"))
    return [
        figures.size(result.get("bytes")),
        figures.size(result.get("download_bytes")),
        figures.quality(metric, quality.get("value")),
        figures.drop(metric, quality.get("drop")),
        figures.milliseconds(latency.get("p95")),
        figures.size(result.get("peak_memory_bytes")),
        f"{joules} ({energy['source']})" if energy.get("source") else joules,
        figures.recipe(result.get("recipe")),
    ]
