"""Lays out a report (the dict that ``compress --json`` prints) as one standalone HTML file.

Reads the dict tolerantly, since any figure may be null; leaves drawing to ``chart`` and the list of candidates to ``candidates``.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.candidates import candidate_table, overview_chart, profile_charts
from edge_compress.report_page.markup import Markup, join, tag

OPEN_UP_TO = 6
"""with more profiles than this, their sections start folded"""
HEADINGS = ("Profile", "Verdict", "Installed", "Download", "Quality", "p95", "Peak memory", "Energy", "Recipe")


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write ``report`` as HTML to ``path``, whole or not at all. Raises OSError where the folder cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(render(report), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def render(report: Mapping[str, Any]) -> str:
    """The whole page."""
    models: Mapping[str, Mapping[str, Any]] = {name: _entry(entry or {}) for name, entry in (report.get("models") or {}).items()}
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
    sections = [_model(name, entry) for name, entry in models.items()]
    main = tag("main", *(sections or [tag("p", "This report holds no models.", class_="empty")]))
    body = tag("body", _header(models), main, _legend())
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(models: Mapping[str, Mapping[str, Any]]) -> Markup:
    entries = [profile for model in models.values() for profile in model["profiles"].values()]
    met = sum(entry.get("verdict") == "FEASIBLE" for entry in entries)
    said = f"{met} of {len(entries)} device profiles have an artifact that meets every goal."
    links = [tag("a", name, href=f"#m-{index}") for index, name in enumerate(models)] if len(models) > 1 else []
    contents = tag("nav", *links, aria_label="Models") if links else None
    return tag("header", tag("p", "edge-compress", class_="brand"), tag("h1", "Compression report"), tag("p", said), contents)


def _model(name: str, entry: Mapping[str, Any]) -> Markup:
    profiles, original = entry["profiles"], entry["float"]
    folded = None if len(profiles) <= OPEN_UP_TO else "folded"
    details = [_profile(profile, result, original, folded is None) for profile, result in profiles.items()]
    top = tag("div", _original(original), overview_chart(name, entry), class_="top")
    anchor = tag("h2", tag("span", "Model ", class_="kind"), name)
    return tag("section", anchor, top, tag("h3", "Profiles"), _profile_table(name, profiles), *details, class_="model")


def _original(original: Mapping[str, Any]) -> Markup:
    quality = original.get("quality") or {}
    metric = str(quality.get("metric") or "quality")
    latency, energy = original.get("latency_ms") or {}, _energy(original.get("energy_mj"))
    rows = (
        ("Size", figures.size(original.get("bytes"))),
        (metric, figures.quality(metric, quality.get("value"))),
        ("95 % confidence", _interval(metric, quality)),
        ("Latency p50 / p95", f"{figures.milliseconds(latency.get('p50'))} / {figures.milliseconds(latency.get('p95'))}"),
        ("Peak memory", figures.size(original.get("peak_memory_bytes"))),
        ("Energy", energy),
    )
    facts = [tag("div", tag("dt", term), tag("dd", value)) for term, value in rows]
    return tag("div", tag("h3", "The float original"), tag("dl", *facts), class_="original")


def _profile_table(model: str, profiles: Mapping[str, Any]) -> Markup:
    head = tag("tr", *[tag("th", text, scope="col") for text in HEADINGS])
    rows = [_profile_row(name, result) for name, result in profiles.items()]
    caption = tag("caption", f"What {model} becomes on each profile", class_="unseen")
    return scrolling(tag("table", caption, tag("thead", head), tag("tbody", *rows)), f"Profiles of {model}")


def _profile_row(name: str, result: Mapping[str, Any]) -> Markup:
    quality, latency = result.get("quality") or {}, result.get("latency_ms") or {}
    metric = str(quality.get("metric") or "")
    against = latency.get("ratio_to_float")
    cells = (
        tag("td", verdict(result.get("verdict")), _sub(_constraint(result))),
        _number(figures.size(result.get("bytes"))),
        _number(figures.size(result.get("download_bytes"))),
        _number(figures.quality(metric, quality.get("value")), figures.drop(metric, quality.get("drop"))),
        _number(figures.milliseconds(latency.get("p95")), f"{figures.ratio(against)} float" if against else ""),
        _number(figures.size(result.get("peak_memory_bytes"))),
        _number(*_energy_parts(result.get("energy_mj"))),
        tag("td", figures.recipe(result.get("recipe")) if result.get("bytes") else figures.NONE),
    )
    return tag("tr", tag("th", name, scope="row"), *cells)


def _profile(name: str, result: Mapping[str, Any], original: Mapping[str, Any], unfolded: bool) -> Markup:
    summary = tag("summary", tag("h3", name), verdict(result.get("verdict")), tag("span", _constraint(result), class_="why"))
    artifact = result.get("artifact")
    facts = [text for text in (_built(result), f"artifact {artifact}" if artifact else "", _took(result)) if text]
    diagnosis = [tag("li", str(line)) for line in result.get("diagnosis") or ()]
    return tag(
        "details",
        summary,
        tag("p", " · ".join(facts), class_="facts") if facts else None,
        tag("div", *profile_charts(name, result, {**original, **(result.get("float") or {})}), class_="charts"),
        join(tag("h4", "Diagnosis"), tag("ul", *diagnosis)) if diagnosis else None,
        tag("h4", "Every candidate and what became of it"),
        scrolling(candidate_table(name, result.get("candidates") or ()), f"Candidates for {name}"),
        class_="profile",
        open="" if unfolded else None,
    )


def verdict(value: object) -> Markup:
    """A badge that says the verdict in a sign, a word and a colour."""
    sign, kind = {"FEASIBLE": ("✓", "good"), "INFEASIBLE": ("✕", "bad")}.get(str(value), ("?", "unknown"))
    return tag("span", tag("span", sign, aria_hidden="true"), f" {value or 'UNKNOWN'}", class_=f"badge {kind}")


def scrolling(table: Markup, name: str) -> Markup:
    """A wide table in a frame that scrolls by itself, with the keyboard too."""
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=name)


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    profiles = {name: _known(result or {}) for name, result in (entry.get("profiles") or {}).items()}
    return {"float": _known(entry.get("float") or {}), "profiles": profiles}


def _known(value: Any) -> Any:
    """``value`` without what is null, so that unknown and absent are one; strategy parameters keep theirs."""
    if isinstance(value, Mapping):
        return {key: item if key == "params" else _known(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_known(item) for item in value if item is not None]
    return value


def _constraint(result: Mapping[str, Any]) -> str:
    binding, gap = str(result.get("binding_constraint") or ""), str(result.get("gap") or "")
    return gap if gap.startswith(binding) else ": ".join(part for part in (binding, gap) if part)


def _built(result: Mapping[str, Any]) -> str:
    if not result.get("bytes"):
        return "no artifact"
    chosen = "chosen" if result.get("verdict") == "FEASIBLE" else "nearest artifact"
    used = figures.parameters(result.get("recipe"))
    return f"{chosen}: {figures.recipe(result.get('recipe'))}" + (f" ({used})" if used else "")


def _took(result: Mapping[str, Any]) -> str:
    seconds = result.get("seconds")
    return "" if seconds is None else f"{figures.significant(seconds)} s to find"


def _interval(metric: str, quality: Mapping[str, Any]) -> str:
    bounds = quality.get("confidence95")
    if not bounds:
        return figures.NONE
    return f"{figures.quality(metric, bounds[0])} to {figures.quality(metric, bounds[1])}, {quality.get('samples', '?')} samples"


def _energy_parts(energy: Mapping[str, Any] | None) -> tuple[str, str]:
    energy = energy or {}
    return figures.millijoules(energy.get("value")), str(energy.get("source") or "")


def _energy(energy: Mapping[str, Any] | None) -> str:
    value, source = _energy_parts(energy)
    return f"{value} ({source})" if source else value


def _number(value: str, below: str = "") -> Markup:
    return tag("td", value, _sub(below if below != figures.NONE else ""), class_="number")


def _sub(text: str) -> Markup | None:
    return tag("small", text) if text else None


def _legend() -> Markup:
    said = (
        "Installed is the file on the device, download its size over the link. Latency, memory and energy are per inference "
        "with a batch of one; a dash means not measured. Charts: a ring with a dot is chosen, a small circle tried, a diamond "
        "is the float original, an arrow lies below the chart, the line is the Pareto front. Point at a mark for its figures."
    )
    return tag("footer", tag("p", said))
