"""Lays out a report (the dict that ``compress --json`` prints) as one standalone HTML file.

Reads the dict tolerantly, since any figure may be null. What a profile shows is left to ``profile``, charts to ``fronts``.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.fronts import overview_chart
from edge_compress.report_page.markup import Markup, join, scrolling, tag
from edge_compress.report_page.profile import Detail, constraint, profile_section, verdict

MOST_BYTES = 1_900_000
"""of the page; where a fleet needs more, each profile tells less"""
DETAILS = (
    Detail(48, 200),
    Detail(20, 100, 10),
    Detail(8, 30, 3),
    Detail(0, 12, 0, charts=False),
    Detail(0, 3, 0, charts=False),
)
OPEN_UP_TO = 3
"""with more profiles than this, their sections start folded"""
HEADINGS = ("Profile", "Verdict", "Installed", "Download", "Quality", "Latency p50 · p95", "Peak memory", "Energy", "Recipe")

Entry = Mapping[str, Any]


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write ``report`` as HTML to ``path``, whole or not at all. Raises OSError where the folder cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(render(report), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def render(report: Mapping[str, Any]) -> str:
    """The whole page, in as much detail as fits."""
    models = {str(name): _entry(entry or {}) for name, entry in (report.get("models") or {}).items()}
    page = ""
    for detail in DETAILS:
        if detail is not DETAILS[-1] and _estimate(models, detail) > MOST_BYTES:
            continue
        page = _page(models, detail)
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def _estimate(models: Mapping[str, Entry], detail: Detail) -> int:
    """About how many bytes the sections take: as many as each model's first for all of its profiles."""
    total = 0
    for index, entry in enumerate(models.values()):
        for at, (profile, result) in list(enumerate(entry["profiles"].items()))[:1]:
            section = _section(f"m{index}p{at}", profile, result, entry, detail)
            total += len(section.encode()) * len(entry["profiles"])
    return total


def _page(models: Mapping[str, Entry], detail: Detail) -> str:
    style = Markup(importlib.resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("title", f"edge-compress report: {', '.join(models) or 'no models'}"),
        tag("style", style),
    )
    sections = [_model(index, name, entry, detail) for index, (name, entry) in enumerate(models.items())]
    main = tag("main", *(sections or [tag("p", "This report holds no models.", class_="empty")]))
    body = tag("body", _header(models), main, _legend())
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(models: Mapping[str, Entry]) -> Markup:
    entries = [profile for model in models.values() for profile in model["profiles"].values()]
    met = sum(entry.get("verdict") == "FEASIBLE" for entry in entries)
    said = f"{met} of {len(entries)} device profiles have an artifact that meets every goal."
    contents = tag("nav", *_links(models), aria_label="Models and profiles") if len(entries) > 1 else None
    return tag("header", tag("p", "edge-compress", class_="brand"), tag("h1", "Compression report"), tag("p", said), contents)


def _links(models: Mapping[str, Entry]) -> list[Markup]:
    """A line a model: its name, and its profiles with the sign of their verdict."""
    lines = []
    for index, (name, entry) in enumerate(models.items()):
        links = [tag("a", name, href=f"#m{index}", class_="model")]
        for at, (profile, result) in enumerate(entry["profiles"].items()):
            met = result.get("verdict") == "FEASIBLE"
            sign = tag(
                "span", "✓" if met else "✕", class_="good" if met else "bad", role="img", aria_label="meets" if met else "misses"
            )
            links.append(tag("a", sign, f" {profile}", href=f"#m{index}p{at}"))
        lines.append(tag("p", *links))
    return lines


def _model(index: int, name: str, entry: Entry, detail: Detail) -> Markup:
    profiles, original = entry["profiles"], entry["float"]
    details = [
        _section(f"m{index}p{at}", profile, result, entry, detail) for at, (profile, result) in enumerate(profiles.items())
    ]
    anchor = tag("h2", tag("span", "Model ", class_="kind"), name, id=f"m{index}")
    overview = overview_chart(name, entry) if len(profiles) > 1 else None
    top = tag("div", _original(original), overview, class_="top")
    table = join(tag("h3", "Profiles"), _profile_table(name, f"m{index}", profiles)) if len(profiles) > 1 else None
    return tag("section", anchor, top, table, *details, class_="model")


def _section(anchor: str, profile: str, result: Entry, entry: Entry, detail: Detail) -> Markup:
    original = {**entry["float"], **(result.get("float") or {})}
    unfolded = len(entry["profiles"]) <= OPEN_UP_TO
    return profile_section(profile, result, original, anchor=anchor, unfolded=unfolded, detail=detail)


def _original(original: Entry) -> Markup:
    quality = original.get("quality") or {}
    metric = str(quality.get("metric") or "quality")
    energy = original.get("energy_mj") or {}
    rows = (
        ("Size", figures.size(original.get("bytes"))),
        (metric, figures.quality(metric, quality.get("value"))),
        ("95 % interval", _interval(metric, quality)),
        ("Latency p50 · p95", figures.both_milliseconds(original.get("latency_ms"))),
        ("Peak memory", figures.size(original.get("peak_memory_bytes"))),
        ("Energy", _energy(energy)),
        ("Multiply-accumulates", figures.count(original.get("macs"))),
        ("Parameters", figures.count(original.get("parameters"))),
        ("Activations that live at once", figures.size(original.get("peak_activation_bytes"))),
    )
    facts = [tag("div", tag("dt", term), tag("dd", value)) for term, value in rows if value != figures.NONE]
    known = tag("dl", *facts) if facts else tag("p", "Nothing was measured of it.", class_="empty")
    return tag("div", tag("h3", "The float original"), known, class_="original")


def _profile_table(model: str, anchor: str, profiles: Mapping[str, Any]) -> Markup:
    head = tag("tr", *[tag("th", text, scope="col") for text in HEADINGS])
    rows = [_profile_row(name, f"#{anchor}p{at}", result) for at, (name, result) in enumerate(profiles.items())]
    caption = tag("caption", f"What {model} becomes on each profile", class_="unseen")
    return scrolling(tag("table", caption, tag("thead", head), tag("tbody", *rows)), f"Profiles of {model}")


def _profile_row(name: str, link: str, result: Entry) -> Markup:
    quality, latency, energy = (result.get(key) or {} for key in ("quality", "latency_ms", "energy_mj"))
    metric = str(quality.get("metric") or "")
    against = latency.get("ratio_to_float")
    cells = (
        tag("td", verdict(result.get("verdict")), _sub(constraint(result))),
        _number(figures.size(result.get("bytes"))),
        _number(figures.size(result.get("download_bytes"))),
        _number(figures.quality(metric, quality.get("value")), figures.drop(metric, quality.get("drop"))),
        _number(figures.both_milliseconds(latency), f"{figures.ratio(against)} float" if against is not None else ""),
        _number(figures.size(result.get("peak_memory_bytes"))),
        _number(figures.millijoules(energy.get("value")), str(energy.get("source") or "")),
        tag("td", figures.recipe(result.get("recipe")) if result.get("bytes") else figures.NONE),
    )
    return tag("tr", tag("th", tag("a", name, href=link), scope="row"), *cells)


def _entry(entry: Entry) -> dict[str, Any]:
    profiles = {str(name): _known(result or {}) for name, result in (entry.get("profiles") or {}).items()}
    return {"float": _known(entry.get("float") or {}), "profiles": profiles}


def _known(value: Any) -> Any:
    """``value`` without what is null, so that unknown and absent are one; strategy parameters keep theirs."""
    if isinstance(value, Mapping):
        return {key: item if key == "params" else _known(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_known(item) for item in value if item is not None]
    return value


def _interval(metric: str, quality: Entry) -> str:
    bounds = quality.get("confidence95")
    if not bounds:
        return figures.NONE
    return f"{figures.quality(metric, bounds[0])} to {figures.quality(metric, bounds[1])}, {quality.get('samples', '?')} samples"


def _energy(energy: Entry) -> str:
    value, source = figures.millijoules(energy.get("value")), str(energy.get("source") or "")
    return f"{value} ({source})" if source and value != figures.NONE else value


def _number(value: str, below: str = "") -> Markup:
    return tag("td", value, _sub(below if below != figures.NONE else ""), class_="number")


def _sub(text: str) -> Markup | None:
    return tag("small", text) if text else None


def _legend() -> Markup:
    said = (
        "Installed is the file on the device, download its size over the link. Latency, memory and energy are per inference "
        "with a batch of one; a dash means not measured. Charts: a ring with a dot is chosen, with the 95 % interval of its "
        "quality; a small circle was tried, a diamond is the float original, an arrow lies below the chart; the stepped line is "
        "the Pareto front, a dotted one a limit. Point at a mark for its figures. Layers: a pale bar is the original, a solid "
        "one the artifact. Predicted +10 % means that the prediction was a tenth too high. Every parameter of every candidate "
        "is in report.json."
    )
    return tag("footer", tag("p", said))
