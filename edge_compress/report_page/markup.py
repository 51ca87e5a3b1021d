"""HTML and SVG elements as text that is safe by construction: whatever is not ``Markup`` is escaped when it goes in."""

from __future__ import annotations

import html

VOID = frozenset({"meta", "br", "hr", "wbr", "input"})


class Markup(str):
    """Text that is markup already. Only this module and constants of this package make one."""

    __slots__ = ()


Child = str | None
"""escaped unless it is Markup; None and empty text vanish"""


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element. In attribute names a trailing underscore is dropped (``class_``), others become hyphens; None is left out."""
    written = "".join(f' {_attribute(key)}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None)
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children if child))


def scrolling(table: Markup, name: str) -> Markup:
    """A wide table in a frame that scrolls by itself, with the keyboard too."""
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=name)


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-") if key != "viewBox" else key
