"""How the demo looks: headings, progress bars on a terminal and plain lines elsewhere, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge_compress.report_page import figures

PLAIN_WIDTH = 150
COLUMNS = ("profile", "verdict", "size", "download", "top-1", "drop", "p95", "peak memory", "energy", "recipe")


def console() -> Console:
    """Standard output; wide enough for the table where there is no terminal to fit into."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


class Bars:
    """A bar per profile or device on a terminal; elsewhere a line whenever one says something new."""

    def __init__(self, screen: Console) -> None:
        self._screen, self._tasks, self._said = screen, dict[str, TaskID](), dict[str, str]()
        columns = (TextColumn("  {task.description:<10}"), BarColumn(24), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=screen, disable=not screen.is_terminal)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, name: str, fraction: float, said: str) -> None:
        """Where ``name`` stands, 0 to 1, and what it does."""
        if not self._screen.is_terminal:
            if self._said.get(name) != said:
                self._screen.print(f"  {name}: {said}", markup=False)
            self._said[name] = said
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(escape(name), total=1.0, said="")
        self._progress.update(self._tasks[name], completed=fraction, said=escape(said))


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


def device_line(name: str, status: Any) -> str:
    """What a device says of itself, in a line."""
    cost = (
        f"p95 {figures.milliseconds(1000 * status.p95_seconds)}, {figures.millijoules(1000 * status.joules_per_inference)} each"
    )
    return f"{name}: {status.inferences} inferences of {status.model} {status.version}, {cost} ({status.energy_source})"


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
