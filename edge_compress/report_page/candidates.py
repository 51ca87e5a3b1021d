"""The candidates of a report: as rows with what became of each, and as points of the charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.chart import Axis, Point, scatter
from edge_compress.report_page.markup import Markup, tag

HEADINGS = ("State", "Recipe", "Why", "Installed", "Download", "Quality", "p50 / p95", "Peak memory", "Energy")
SIGNS = {"chosen": "◉", "lost": "○", "refused": "⊘", "failed": "✕", "skipped": "–"}
LEAST_WINDOW, MOST_WINDOW = 0.02, 0.05
"""how far below the original the charts of a share reach at least, and from where candidates that lost become arrows"""

Figure = Callable[[Mapping[str, Any]], float | None]


def candidate_table(profile: str, candidates: Sequence[Mapping[str, Any]]) -> Markup:
    """Every candidate with its state, why, and what was measured or (in words) predicted."""
    head = tag("tr", *[tag("th", text, scope="col") for text in HEADINGS])
    rows = [_row(candidate) for candidate in sorted(candidates, key=_order)]
    caption = tag("caption", f"Candidates for {profile}", class_="unseen")
    return tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="candidates")


def overview_chart(model: str, entry: Mapping[str, Any]) -> Markup:
    """Size against quality over all profiles, with what each profile got. Equal artifacts share one mark."""
    original, profiles = entry["float"], entry["profiles"]
    labels: dict[tuple[Any, Any], list[str]] = {}
    for name, result in profiles.items():
        if (place := _place(result, _quality)) is not None:
            labels.setdefault(place, []).append(name)
    tried = {
        place: Point(*place, "tried", _title(candidate))
        for result in profiles.values()
        for candidate in result.get("candidates") or ()
        if (place := _place(candidate, _quality)) is not None and place not in labels
    }
    chosen = [Point(*place, "chosen", f"{', '.join(names)}: {_xy(place)}", ", ".join(names)) for place, names in labels.items()]
    points = [*tried.values(), *_original(original, _quality), *chosen]
    axis = _quality_axis(original, list(profiles.values()))
    return _figure(points, axis, f"{model}: size against {axis.label}, all profiles", f"All profiles: {axis.label}")


def profile_charts(profile: str, result: Mapping[str, Any], original: Mapping[str, Any]) -> list[Markup]:
    """Size against quality, latency and energy of this profile's candidates."""
    axes: list[tuple[Figure, Axis | None]] = [
        (_quality, None),
        (_latency, Axis("latency p95", figures.milliseconds)),
        (_energy, Axis("energy per inference", figures.millijoules)),
    ]
    charts = []
    for figure, axis in axes:
        points = [*_tried(result, figure), *_original(original, figure), *_chosen(profile, result, figure)]
        shown = axis or _quality_axis(original, [result])
        charts.append(_figure(points, shown, f"{profile}: size against {shown.label}", shown.label))
    return charts


def _row(candidate: Mapping[str, Any]) -> Markup:
    state = str(candidate.get("state") or "?")
    quality, latency, energy = (candidate.get(key) or {} for key in ("quality", "latency_ms", "energy_mj"))
    metric = str(quality.get("metric") or "")
    times = [figures.milliseconds(latency.get(key)) for key in ("p50", "p95")]
    used = figures.parameters(candidate.get("recipe"))
    numbers = (
        _size(candidate, "bytes"),
        _size(candidate, "download_bytes"),
        _with(figures.quality(metric, quality.get("value")), figures.drop(metric, quality.get("drop"))),
        tag("td", " / ".join(times) if latency else figures.NONE, class_="number"),
        tag("td", figures.size(candidate.get("peak_memory_bytes")), class_="number"),
        _with(figures.millijoules(energy.get("value")), str(energy.get("source") or "")),
    )
    sign = tag("span", SIGNS.get(state, "?"), aria_hidden="true")
    recipe = tag("td", figures.recipe(candidate.get("recipe")), tag("small", used) if used else None, class_="recipe")
    why = tag("td", str(candidate.get("why") or ""), class_="why")
    return tag("tr", tag("td", sign, f" {state}", class_="state"), recipe, why, *numbers, class_=f"row {state}")


def _size(candidate: Mapping[str, Any], key: str) -> Markup:
    if candidate.get(key):
        return tag("td", figures.size(candidate[key]), class_="number")
    predicted = (candidate.get("predicted") or {}).get(key)
    return _with(figures.size(predicted), "predicted" if predicted is not None else "")


def _with(value: str, below: str) -> Markup:
    return tag("td", value, tag("small", below) if below and below != figures.NONE else None, class_="number")


def _order(candidate: Mapping[str, Any]) -> int:
    states = list(SIGNS)
    state = candidate.get("state")
    return states.index(state) if state in states else len(states)


def _figure(points: Sequence[Point], axis: Axis, name: str, heading: str) -> Markup:
    size = Axis("installed size", figures.size, step_base=_binary_base(points))
    direction = "higher is better" if axis.higher_is_better else "lower is better"
    caption = tag("figcaption", heading, tag("small", direction))
    return tag("figure", caption, scatter(points, size, axis, name=name))


def _binary_base(points: Sequence[Point]) -> float:
    """Ticks fall on round KiB or MiB."""
    largest = max((point.x for point in points), default=0.0)
    return float(1024**2 if largest >= 2 * 1024**2 else 1024)


def _quality_axis(original: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Axis:
    measured = [result["quality"] for result in results if result.get("quality")]
    known = original.get("quality") or (measured[0] if measured else {})
    metric, higher = str(known.get("metric") or "quality"), _higher_is_better(results)
    reference = known.get("float", known.get("value"))
    worst = max((abs(quality.get("drop") or 0.0) for quality in measured), default=0.0)
    low = floor = None
    if reference is not None and higher:
        low = reference - LEAST_WINDOW if metric in figures.SHARES else None
        floor = reference - max(MOST_WINDOW, 1.5 * worst)
    write = (lambda value: f"{100 * value:.4g} %") if metric in figures.SHARES else (lambda value: f"{value:.4g}")
    return Axis(metric, write, higher_is_better=higher, low=low, floor=floor, from_zero=False)


def _higher_is_better(results: Sequence[Mapping[str, Any]]) -> bool:
    """A report does not say which way a metric runs; where higher is better, a drop has the sign of (original - value)."""
    measured = [entry.get("quality") or {} for result in results for entry in (result, *(result.get("candidates") or ()))]
    known = [q for q in measured if q.get("drop") and q.get("float") is not None and q.get("value") is not None]
    return bool(sum((q["float"] - q["value"]) * q["drop"] for q in known) >= 0)


def _tried(result: Mapping[str, Any], figure: Figure) -> list[Point]:
    rest = [candidate for candidate in result.get("candidates") or () if candidate.get("state") != "chosen"]
    placed = [(_place(candidate, figure), candidate) for candidate in rest]
    return [Point(*place, "tried", _title(candidate)) for place, candidate in placed if place is not None]


def _chosen(profile: str, result: Mapping[str, Any], figure: Figure) -> list[Point]:
    place = _place(result, figure)
    label = "chosen" if result.get("verdict") == "FEASIBLE" else "nearest"
    return [Point(*place, "chosen", f"{label} for {profile}: {_title(result)}", label)] if place else []


def _original(original: Mapping[str, Any], figure: Figure) -> list[Point]:
    place = _place(original, figure)
    return [Point(*place, "float", f"float original: {figures.size(place[0])}", "float")] if place else []


def _place(entry: Mapping[str, Any], figure: Figure) -> tuple[float, float] | None:
    size, value = entry.get("bytes"), figure(entry)
    return (float(size), float(value)) if size and value is not None else None


def _quality(entry: Mapping[str, Any]) -> float | None:
    return (entry.get("quality") or {}).get("value")


def _latency(entry: Mapping[str, Any]) -> float | None:
    return (entry.get("latency_ms") or {}).get("p95")


def _energy(entry: Mapping[str, Any]) -> float | None:
    return (entry.get("energy_mj") or {}).get("value")


def _title(entry: Mapping[str, Any]) -> str:
    quality = entry.get("quality") or {}
    metric = str(quality.get("metric") or "quality")
    parts = [figures.recipe(entry.get("recipe")), figures.size(entry.get("bytes"))]
    parts += [f"{metric} {figures.quality(metric, quality.get('value'))}"] if quality else []
    return ", ".join([*parts, f"p95 {figures.milliseconds(_latency(entry))}", f"energy {figures.millijoules(_energy(entry))}"])


def _xy(place: tuple[float, float]) -> str:
    return f"{figures.size(place[0])}, {place[1]:.4g}"
