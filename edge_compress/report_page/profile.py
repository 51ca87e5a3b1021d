"""One profile of a model: the verdict in words, what the artifact costs beside the original, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.candidates import candidate_tables
from edge_compress.report_page.fronts import profile_charts
from edge_compress.report_page.layers import layer_bars
from edge_compress.report_page.markup import Markup, join, tag
from edge_compress.report_page.predictions import prediction_table
from edge_compress.report_page.story import story
from edge_compress.report_page.tiles import tiles

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Detail:
    """How much of each profile is told, so that the page of a large fleet stays small."""

    layers: int
    candidates: int
    stories: int = 100
    """candidates other than the chosen one whose findings are told"""
    charts: bool = True


def profile_section(name: str, result: Entry, original: Entry, *, anchor: str, unfolded: bool, detail: Detail) -> Markup:
    """The section, folded or not. ``original``: the float's figures as this profile measured them."""
    summary = tag(
        "summary", tag("h3", name), verdict(result.get("verdict")), tag("span", headline(result, original), class_="why")
    )
    candidates = list(result.get("candidates") or ())
    chosen: Entry = next((entry for entry in candidates if entry.get("state") == "chosen"), {})
    made = [part for part in (_steps(result), prediction_table({**chosen, **_figures(result)}, candidates)) if part is not None]
    charts = profile_charts(name, result, original) if detail.charts else []
    bars = layer_bars(name, result.get("layers") or (), detail.layers, f"{anchor}-order")
    return tag(
        "details",
        summary,
        tag("p", verdict_in_words(result), class_="verdict", id=anchor),  # inside, so that a link to it opens the section
        tiles(result, original) if result.get("bytes") else None,
        tag("div", *made, class_="made") if made else None,
        tag("div", *charts, class_="charts four" if len(charts) == 4 else "charts") if charts else None,
        join(tag("h4", "Layer by layer"), bars) if bars else None,
        story(result, detail.stories),
        tag("h4", "Every candidate and what became of it"),
        candidate_tables(name, candidates[: detail.candidates]),
        _left_out(len(candidates) - detail.candidates),
        class_="profile",
        open="" if unfolded else None,
    )


def verdict(value: object) -> Markup:
    """A badge that says the verdict in a sign, a word and a colour."""
    sign, kind = {"FEASIBLE": ("✓", "good"), "INFEASIBLE": ("✕", "bad")}.get(str(value), ("?", "unknown"))
    return tag("span", tag("span", sign, aria_hidden="true"), f" {value or 'UNKNOWN'}", class_=f"badge {kind}")


def constraint(result: Entry) -> str:
    """What binds and by how much; empty where nothing does."""
    binding, gap = str(result.get("binding_constraint") or ""), str(result.get("gap") or "")
    return gap if gap.startswith(binding) else ": ".join(part for part in (binding, gap) if part)


def headline(result: Entry, original: Entry) -> str:
    """The result in a line: what binds, else how much smaller and faster the artifact is."""
    if result.get("verdict") != "FEASIBLE":
        return constraint(result)
    size, base = result.get("bytes"), original.get("bytes")
    quality = result.get("quality") or {}
    speed = (result.get("latency_ms") or {}).get("ratio_to_float")
    parts = [f"{base / size:.1f}× smaller" if size and base and base > size else ""]
    parts += [f"{1 / speed:.1f}× faster" if speed and speed < 0.95 else ""]
    parts += [figures.drop(str(quality.get("metric") or ""), quality.get("drop")) if quality else ""]
    return ", ".join(part for part in parts if part)


def verdict_in_words(result: Entry) -> str:
    """The verdict as a sentence or two."""
    took = f" Found in {figures.duration(result['seconds'])}." if result.get("seconds") is not None else ""
    if result.get("verdict") == "FEASIBLE":
        aim = result.get("objective")
        return (
            f"Every goal of this profile is met. Of those that meet them this artifact is best by {aim or 'the objective'}.{took}"
        )
    said = constraint(result)
    what = f"No candidate meets every goal; what binds is {said}." if said else "No verdict was reached."
    kept = " The artifact that comes nearest is kept." if result.get("bytes") else " There is no artifact."
    return f"{what}{kept}{took}"


def _steps(result: Entry) -> Markup | None:
    """The recipe step by step, with every parameter, and where the artifact lies."""
    if not result.get("bytes"):
        return None
    items = []
    for step in result.get("recipe") or ():
        used = figures.parameters([step])
        items.append(tag("li", tag("b", str(step.get("strategy", "?"))), tag("small", used) if used else None))
    how = tag("ol", *items, class_="steps") if items else tag("p", "The original as it is.")
    artifact, digest = result.get("artifact"), str(result.get("sha256") or "")
    where = [tag("code", str(artifact)) if artifact else None, tag("small", f"sha256 {digest[:12]}…") if digest else None]
    return tag("div", tag("h4", "How it is made"), how, tag("p", *where, class_="facts") if any(where) else None)


def _figures(result: Entry) -> dict[str, Any]:
    keys = ("bytes", "download_bytes", "latency_ms", "peak_memory_bytes", "energy_mj")
    return {key: result[key] for key in keys if result.get(key) is not None}


def _left_out(count: int) -> Markup | None:
    return tag("p", f"{count} more are in report.json.", class_="facts") if count > 0 else None
