"""What was foretold of a candidate beside what was measured, and how far off predictions were over all candidates."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.markup import Markup, tag

Entry = Mapping[str, Any]
ENOUGH = 3
"""candidates from which a typical error is told"""


@dataclass(frozen=True)
class Quantity:
    """One figure that is predicted: where an entry holds the prediction (``predicted``, in base units) and the measured one."""

    name: str
    predicted: str
    scale: float
    measured: Callable[[Entry], Any]
    write: Callable[[float | None], str]


QUANTITIES = (
    Quantity("Installed", "bytes", 1, lambda entry: entry.get("bytes"), figures.size),
    Quantity("Download", "download_bytes", 1, lambda entry: entry.get("download_bytes"), figures.size),
    Quantity(
        "Latency p50", "latency_seconds", 1000, lambda entry: (entry.get("latency_ms") or {}).get("p50"), figures.milliseconds
    ),
    Quantity("Peak memory", "memory_bytes", 1, lambda entry: entry.get("peak_memory_bytes"), figures.size),
    Quantity("Energy", "energy_joules", 1000, lambda entry: (entry.get("energy_mj") or {}).get("value"), figures.millijoules),
)


def prediction_table(chosen: Entry, candidates: Sequence[Entry]) -> Markup | None:
    """Predicted, measured and the error, a row a quantity; None where nothing was predicted."""
    rows = [row for quantity in QUANTITIES if (row := _row(quantity, chosen, candidates)) is not None]
    if not rows:
        return None
    heads = ("", "Predicted", "Measured", "Off by", "Typically")
    head = tag("tr", *[tag("th", text, scope="col") for text in heads])
    caption = tag("caption", "Predicted and measured")
    return tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="foretold")


def _row(quantity: Quantity, chosen: Entry, candidates: Sequence[Entry]) -> Markup | None:
    predicted, measured = _predicted(quantity, chosen), quantity.measured(chosen)
    if predicted is None:
        return None
    errors = [abs(error) for entry in candidates if (error := _error(quantity, entry)) is not None]
    typical = f"±{100 * statistics.median(errors):.0f} % of {len(errors)}" if len(errors) >= ENOUGH else figures.NONE
    cells = (quantity.write(predicted), quantity.write(measured), figures.off_by(predicted, measured), typical)
    return tag("tr", tag("th", quantity.name, scope="row"), *[tag("td", text, class_="number") for text in cells])


def _predicted(quantity: Quantity, entry: Entry) -> float | None:
    value = (entry.get("predicted") or {}).get(quantity.predicted)
    return None if value is None else float(value) * quantity.scale


def _error(quantity: Quantity, entry: Entry) -> float | None:
    predicted, measured = _predicted(quantity, entry), quantity.measured(entry)
    return None if predicted is None or not measured else predicted / float(measured) - 1
