"""What was found wrong and what was done about it, as a reader would tell it: the chosen artifact first, then the others.

A report carries the same lines twice, under ``diagnosis`` and in the candidates' logs; each is told once here, with the
candidate it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_compress.report_page.candidates import recipes
from edge_compress.report_page.markup import Markup, join, tag

Entry = Mapping[str, Any]
REPAIRS = ("repaired", "kept", "keeping", "folded", "equalised", "corrected")
"""first words of lines that tell a remedy"""


def story(result: Entry, most: int) -> Markup | None:
    """The whole section, with at most ``most`` candidates besides the chosen one; None where there is nothing to tell."""
    candidates = result.get("candidates") or ()
    told = [(entry, said) for entry, said in zip(candidates, recipes(candidates), strict=True) if _lines(entry)]
    own = [entry for entry, _ in told if entry.get("state") == "chosen"]
    others = [(entry, said) for entry, said in told if entry.get("state") != "chosen"][:most]
    general = _beyond(result.get("diagnosis") or (), [entry for entry, _ in told])
    if not (told or general):
        return None
    parts = [_list(_lines(entry)) for entry in own]
    if general:
        parts.append(tag("ul", *[tag("li", line) for line in general]))
    if others:
        blocks = [
            join(tag("p", f"{entry.get('state') or '?'}: ", said, class_="whose"), _list(_lines(entry))) for entry, said in others
        ]
        summary = tag("summary", f"What was found in {len(others)} other candidate{'s' if len(others) > 1 else ''}")
        parts.append(tag("details", summary, *blocks, class_="others", open="" if not parts else None))
    return join(tag("h4", "What was found, and what was done about it"), *parts)


def _lines(entry: Entry) -> list[str]:
    return [str(line) for line in entry.get("log") or ()]


def _beyond(diagnosis: Sequence[Any], told: Sequence[Entry]) -> list[str]:
    """The lines that no candidate's log holds already."""
    held: set[str] = set()
    for entry in told:
        last = str(([*(entry.get("recipe") or ())] or [{}])[-1].get("strategy", "?"))
        held.update(f"{last}: {line}" for line in _lines(entry))
    return [str(line) for line in diagnosis if str(line) not in held]


def _list(lines: Sequence[str]) -> Markup:
    items = [tag("li", line, class_="remedy" if line.split(" ", 1)[0] in REPAIRS else None) for line in lines]
    return tag("ol", *items, class_="story")
