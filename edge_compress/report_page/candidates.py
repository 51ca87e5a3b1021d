"""The candidates of a profile as tables: those that were tried with what became of each, and those that were refused unrun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.markup import Markup, join, scrolling, tag

HEADINGS = ("State", "Recipe", "Why", "Installed", "Download", "Quality", "Latency p50 · p95", "Peak memory", "Energy")
SIGNS = {"chosen": "◉", "lost": "○", "failed": "✕", "skipped": "–", "refused": "⊘"}
REFUSED_HEADINGS = ("Recipe", "Why it was not run", "Installed", "Download")

Entry = Mapping[str, Any]


def candidate_tables(profile: str, candidates: Sequence[Entry]) -> Markup:
    """How many there were and what became of them, then the tables."""
    words = recipes(candidates)
    told = sorted(zip(candidates, words, strict=True), key=lambda pair: _order(pair[0]))
    tried = [(entry, said) for entry, said in told if entry.get("state") != "refused"]
    refused = [(entry, said) for entry, said in told if entry.get("state") == "refused"]
    parts = [tag("p", _counted(candidates), class_="facts")]
    if tried:
        parts.append(scrolling(_tried_table(profile, tried), f"Candidates for {profile}"))
    if refused:
        summary = tag("summary", f"{len(refused)} refused without running")
        table = scrolling(_refused_table(profile, refused), f"Refused candidates for {profile}")
        parts.append(tag("details", summary, table, class_="refused", open="" if len(refused) <= 3 else None))
    return join(*parts)


def recipes(candidates: Sequence[Entry]) -> list[Markup]:
    """Each recipe in words, with the parameters that tell it from the others of this list."""
    differing = _differing(candidates)
    return [_recipe(entry.get("recipe") or [], differing) for entry in candidates]


def _recipe(steps: Sequence[Entry], differing: frozenset[tuple[str, str]]) -> Markup:
    if not steps:
        return join(figures.recipe(None))
    telling = []
    for step in steps:
        name, params = str(step.get("strategy", "?")), step.get("params") or {}
        telling.append({"strategy": name, "params": {key: value for key, value in params.items() if (name, key) in differing}})
    used = figures.parameters(telling)
    return join(figures.recipe(steps), tag("small", used) if used else None)


def _differing(candidates: Sequence[Entry]) -> frozenset[tuple[str, str]]:
    """Parameters, by strategy and name, that not every use of the strategy sets alike."""
    seen: dict[tuple[str, str], set[str]] = {}
    uses: Counter[str] = Counter()
    for entry in candidates:
        for step in entry.get("recipe") or []:
            name = str(step.get("strategy", "?"))
            uses[name] += 1
            for key, value in (step.get("params") or {}).items():
                seen.setdefault((name, key), set()).add(repr(value))
    return frozenset(at for at, values in seen.items() if len(values) > 1)


def _counted(candidates: Sequence[Entry]) -> str:
    if not candidates:
        return "No candidate was considered."
    states = Counter(str(entry.get("state") or "?") for entry in candidates)
    known = [state for state in SIGNS if states[state]] + [state for state in states if state not in SIGNS]
    return f"{len(candidates)} considered: {', '.join(f'{states[state]} {state}' for state in known)}."


def _tried_table(profile: str, tried: Sequence[tuple[Entry, Markup]]) -> Markup:
    energy = any((entry.get("energy_mj") or {}).get("value") is not None for entry, _ in tried)
    head = tag("tr", *[tag("th", text, scope="col") for text in (HEADINGS if energy else HEADINGS[:-1])])
    rows = [_tried_row(entry, said, energy) for entry, said in tried]
    caption = tag("caption", f"Candidates for {profile}", class_="unseen")
    return tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="candidates")


def _refused_table(profile: str, refused: Sequence[tuple[Entry, Markup]]) -> Markup:
    head = tag("tr", *[tag("th", text, scope="col") for text in REFUSED_HEADINGS])
    rows = [
        tag(
            "tr",
            tag("td", said, class_="recipe"),
            tag("td", str(entry.get("why") or ""), class_="why"),
            _figure(entry, "bytes"),
            _figure(entry, "download_bytes"),
        )
        for entry, said in refused
    ]
    caption = tag("caption", f"Refused candidates for {profile}", class_="unseen")
    return tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="candidates refusals")


def _tried_row(entry: Entry, said: Markup, with_energy: bool) -> Markup:
    state = str(entry.get("state") or "?")
    quality, latency, energy = (entry.get(key) or {} for key in ("quality", "latency_ms", "energy_mj"))
    metric = str(quality.get("metric") or "")
    against = latency.get("ratio_to_float")
    numbers = (
        _figure(entry, "bytes"),
        _figure(entry, "download_bytes"),
        _number(figures.quality(metric, quality.get("value")), figures.drop(metric, quality.get("drop"))),
        _number(figures.both_milliseconds(latency), f"{figures.ratio(against)} float" if against is not None else ""),
        _number(figures.size(entry.get("peak_memory_bytes"))),
        _number(figures.millijoules(energy.get("value")), str(energy.get("source") or "")) if with_energy else None,
    )
    sign = tag("span", SIGNS.get(state, "?"), aria_hidden="true")
    recipe = tag("td", said, class_="recipe")
    why = tag("td", str(entry.get("why") or ""), class_="why")
    return tag("tr", tag("td", sign, f" {state}", class_="state"), recipe, why, *numbers, class_=f"row {state}")


def _figure(entry: Entry, key: str) -> Markup:
    """A size as measured, with how far off the prediction was; else the prediction, and that it is one."""
    predicted = (entry.get("predicted") or {}).get(key)
    if entry.get(key):
        off = figures.off_by(predicted, entry[key])
        return _number(figures.size(entry[key]), f"predicted {off}" if off != figures.NONE else "")
    return _number(figures.size(predicted), "predicted" if predicted is not None else "")


def _number(value: str, below: str = "") -> Markup:
    return tag("td", value, tag("small", below) if below and below != figures.NONE else None, class_="number")


def _order(entry: Entry) -> int:
    states = list(SIGNS)
    state = entry.get("state")
    return states.index(state) if state in states else len(states)
