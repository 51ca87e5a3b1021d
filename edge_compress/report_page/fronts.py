"""The Pareto charts of a report: size, latency and energy against quality, for one profile and for all of a model's.

Turns entries of the report into points; drawing them is left to ``chart``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.chart import Axis, Point, scatter
from edge_compress.report_page.markup import Markup, tag

LEAST_WINDOW, MOST_WINDOW = 0.02, 0.05
"""how far below the original the quality axis of a share reaches at least, and from where candidates that lost are arrows"""

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a chart sets against quality: ``of`` reads it from an entry, given the original's."""

    heading: str
    axis: Callable[[Sequence[Point]], Axis]
    of: Callable[[Entry, Entry], float | None]
    missing: str = "Nothing was measured."
    limit: Callable[[Entry], float | None] = lambda limits: None
    optional: bool = False
    """left out where no candidate has it"""


def overview_chart(model: str, entry: Entry) -> Markup:
    """Size against quality over all profiles, with what each profile got. Equal artifacts share one mark."""
    original, profiles = entry["float"], entry["profiles"]
    cost = COSTS[0]
    labels: dict[tuple[Any, Any], list[str]] = {}
    for name, result in profiles.items():
        if (place := _place(result, original, cost)) is not None:
            labels.setdefault(place, []).append(name)
    tried = {
        place: Point(*place, "tried", title_of(candidate))
        for result in profiles.values()
        for candidate in result.get("candidates") or ()
        if (place := _place(candidate, original, cost)) is not None and place not in labels
    }
    chosen = [Point(*place, "chosen", f"{', '.join(names)}: {_xy(place)}", _few(names)) for place, names in labels.items()]
    points = [*tried.values(), *_original(original, cost), *chosen]
    axis = _quality_axis(original, list(profiles.values()), _common_drop(profiles.values()))
    return _figure(
        points, axis, cost, f"{model}: size against {axis.label}, all profiles", f"Every profile: size against {axis.label}"
    )


def profile_charts(profile: str, result: Entry, original: Entry) -> list[Markup]:
    """Size, download, latency and (where it is known) energy against the quality of this profile's candidates."""
    limits = result.get("limits") or {}
    axis = _quality_axis(original, [result], limits.get("max_drop"))
    charts = []
    entries = [result, *(result.get("candidates") or ())]
    for cost in COSTS:
        if cost.optional and all(cost.of(entry, original) is None for entry in entries):
            continue
        points = [*_tried(result, original, cost), *_original(original, cost), *_chosen(profile, result, original, cost)]
        name = f"{profile}: {cost.heading.lower()} against {axis.label}"
        charts.append(_figure(points, axis, cost, name, f"{cost.heading} against {axis.label}", cost.limit(limits)))
    return charts


def title_of(entry: Entry) -> str:
    """An entry in one line: its recipe and its figures."""
    quality = entry.get("quality") or {}
    metric = str(quality.get("metric") or "quality")
    parts = [figures.recipe(entry.get("recipe")), figures.size(entry.get("bytes"))]
    parts += [f"{metric} {figures.quality(metric, quality.get('value'))}"] if quality else []
    if latency := entry.get("latency_ms"):
        parts += [f"p50 {figures.milliseconds(latency.get('p50'))}", f"p95 {figures.milliseconds(latency.get('p95'))}"]
    energy = (entry.get("energy_mj") or {}).get("value")
    return ", ".join([*parts, *([f"energy {figures.millijoules(energy)}"] if energy is not None else [])])


def _figure(points: Sequence[Point], axis: Axis, cost: Cost, name: str, heading: str, limit: float | None = None) -> Markup:
    caption = tag("figcaption", heading)
    if not [point for point in points if point.kind != "float"]:
        return tag("figure", caption, tag("p", cost.missing, class_="empty"))
    return tag("figure", caption, scatter(points, replace(cost.axis(points), limit=limit), axis, name=name))


def _size_axis(points: Sequence[Point]) -> Axis:
    return _bytes_axis("installed size", points)


def _bytes_axis(label: str, points: Sequence[Point]) -> Axis:
    """Ticks fall on round KiB or MiB."""
    largest = max((point.x for point in points), default=0.0)
    return Axis(label, figures.size, step_base=float(1024**2 if largest >= 2 * 1024**2 else 1024))


def _download(entry: Entry, original: Entry) -> float | None:
    return float(entry["download_bytes"]) if entry.get("download_bytes") else None


def _size(entry: Entry, original: Entry) -> float | None:
    return float(entry["bytes"]) if entry.get("bytes") else None


def _latency(entry: Entry, original: Entry) -> float | None:
    """Times the original's: side by side, it holds while the machine's speed drifts; else from the medians."""
    own, base = entry.get("latency_ms") or {}, original.get("latency_ms") or {}
    if own.get("ratio_to_float") is not None:
        return float(own["ratio_to_float"])
    if own.get("p50") is None or not base.get("p50"):
        return None
    return float(own["p50"]) / float(base["p50"])


def _energy(entry: Entry, original: Entry) -> float | None:
    value = (entry.get("energy_mj") or {}).get("value")
    return None if value is None else float(value)


COSTS = (
    Cost("Size", _size_axis, _size, "No candidate was made.", lambda limits: limits.get("storage_bytes")),
    Cost("Download", lambda points: _bytes_axis("size over the link", points), _download, optional=True),
    Cost(
        "Latency",
        lambda points: Axis("latency, times the original's", lambda value: f"{value:.3g}×"),
        _latency,
        "No candidate was timed.",
    ),
    Cost(
        "Energy",
        lambda points: Axis("energy per inference", figures.millijoules),
        _energy,
        optional=True,
    ),
)


def _quality_axis(original: Entry, results: Sequence[Entry], max_drop: float | None) -> Axis:
    measured = [result["quality"] for result in results if result.get("quality")]
    known = original.get("quality") or (measured[0] if measured else {})
    metric, higher = str(known.get("metric") or "quality"), _higher_is_better(results)
    reference = known.get("float", known.get("value"))
    worst = max((abs(quality.get("drop") or 0.0) for quality in measured), default=0.0)
    low = floor = limit = None
    if reference is not None and max_drop is not None:
        limit = reference - max_drop if higher else reference + max_drop
    if reference is not None and higher:
        low = reference - LEAST_WINDOW if metric in figures.SHARES else None
        floor = reference - max(MOST_WINDOW, 1.5 * worst)
    write = (lambda value: f"{100 * value:.4g} %") if metric in figures.SHARES else (lambda value: f"{value:.4g}")
    return Axis(metric, write, higher_is_better=higher, low=low, high=reference, floor=floor, from_zero=False, limit=limit)


def _common_drop(results: Iterable[Entry]) -> float | None:
    """The drop allowed, where all of a model's profiles were judged by the same."""
    allowed = {(result.get("limits") or {}).get("max_drop") for result in results}
    return allowed.pop() if len(allowed) == 1 else None


def _higher_is_better(results: Sequence[Entry]) -> bool:
    """A report does not say which way a metric runs; where higher is better, a drop has the sign of (original - value)."""
    measured = [entry.get("quality") or {} for result in results for entry in (result, *(result.get("candidates") or ()))]
    known = [q for q in measured if q.get("drop") and q.get("float") is not None and q.get("value") is not None]
    return bool(sum((q["float"] - q["value"]) * q["drop"] for q in known) >= 0)


def _tried(result: Entry, original: Entry, cost: Cost) -> list[Point]:
    rest = [candidate for candidate in result.get("candidates") or () if candidate.get("state") != "chosen"]
    placed = [(_place(candidate, original, cost), candidate) for candidate in rest]
    return [Point(*place, "tried", title_of(candidate)) for place, candidate in placed if place is not None]


def _chosen(profile: str, result: Entry, original: Entry, cost: Cost) -> list[Point]:
    place = _place(result, original, cost)
    if place is None:
        return []
    label = "chosen" if result.get("verdict") == "FEASIBLE" else "nearest"
    bounds = (result.get("quality") or {}).get("confidence95")
    spread = (float(bounds[0]), float(bounds[1])) if bounds and len(bounds) == 2 else None
    return [Point(*place, "chosen", f"{label} for {profile}: {title_of(result)}", label, spread)]


def _original(original: Entry, cost: Cost) -> list[Point]:
    place = _place(original, original, cost)
    return [Point(*place, "float", f"float original: {_words(original)}", "float")] if place else []


def _words(original: Entry) -> str:
    quality = original.get("quality") or {}
    metric = str(quality.get("metric") or "quality")
    p50 = (original.get("latency_ms") or {}).get("p50")
    parts = [figures.size(original.get("bytes")), f"{metric} {figures.quality(metric, quality.get('value'))}"]
    return ", ".join([*parts, *([f"p50 {figures.milliseconds(p50)}"] if p50 is not None else [])])


def _place(entry: Entry, original: Entry, cost: Cost) -> tuple[float, float] | None:
    across, quality = cost.of(entry, original), (entry.get("quality") or {}).get("value")
    return (across, float(quality)) if across is not None and quality is not None else None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"


def _xy(place: tuple[float, float]) -> str:
    return f"{figures.size(place[0])}, {place[1]:.4g}"
