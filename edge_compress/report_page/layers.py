"""The layers of a model as aligned bars: bytes, time and sensitivity of each, before and after.

Small multiples in one table: a pale bar is the original, a solid one the artifact. Reordering is done by style sheet alone (radio
buttons and the ``order`` of each row), so that it works where scripts do not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.markup import Markup, join, tag

Layer = Mapping[str, Any]
OTHERS = "everything else"
"""name of the entry for what is no layer; it stays last"""
LONGEST_NAME = 36
ORDERS = (("model", "as in the model"), ("bytes", "bytes"), ("time", "time"), ("sensitivity", "sensitivity"))


@dataclass(frozen=True)
class Column:
    """One quantity: how it is called and written, and the keys of its values before and after."""

    key: str
    heading: str
    hint: str
    was: str
    now: str
    write: Any


@dataclass(frozen=True)
class Standout:
    """A sentence about one layer: what is before its name, the name, and what is after it."""

    lead: str
    name: str
    rest: str


COLUMNS = (
    Column("bytes", "Bytes", "weights, original and artifact", "bytes", "bytes_after", figures.size),
    Column("time", "Time", "of one inference, by the runtime's profiler", "time_ms", "time_after_ms", figures.milliseconds),
    Column(
        "sensitivity",
        "Sensitivity",
        "error of the answers when this layer alone has 4-bit weights",
        "",
        "sensitivity",
        figures.percent,
    ),
)


def layer_bars(profile: str, layers: Sequence[Layer], most: int, group: str) -> Markup | None:
    """The figure, of at most ``most`` layers: the lighter ones share a row. ``group`` names its radio buttons, once on the page.
    None where nothing is known of layers."""
    if not layers or most < 1:
        return None
    shown = _shown(layers, most)
    largest = {column.key: _largest(shown, column) for column in COLUMNS}
    known = [column for column in COLUMNS if largest[column.key]]
    head = [tag("div", "Layer", role="columnheader")]
    head += [tag("div", column.heading, tag("small", column.hint), role="columnheader") for column in known]
    ranks = {column.key: _ranks(shown, column) for column in known}
    rows = [_row(layer, at, known, largest, ranks) for at, layer in enumerate(shown)]
    body = tag("div", *rows, role="rowgroup", class_="rows")
    top = tag("div", tag("div", *head, role="row", class_="row head"), role="rowgroup")
    columns = f"--columns:{len(known)}"
    table = tag("div", top, body, role="table", aria_label=f"Layers of {profile}", class_="bars", style=columns)
    frame = tag("div", table, class_="frame", tabindex="0", role="region", aria_label=f"Layers of {profile}, scrolls")
    return tag("div", _summary(layers), _orders(group, [column.key for column in known]), frame, class_="layers")


def short_name(name: str) -> str:
    """The telling end of a layer's name: exporters join the names of what they fused with semicolons."""
    last = name.rsplit(";", 1)[-1]
    return last if len(last) <= LONGEST_NAME else f"…{last[1 - LONGEST_NAME :]}"


def _shown(layers: Sequence[Layer], most: int) -> list[Layer]:
    named = [layer for layer in layers if layer.get("name") != OTHERS]
    rest = [layer for layer in layers if layer.get("name") == OTHERS]
    if len(named) <= most:
        return [*named, *rest]
    totals = {key: sum(layer.get(key) or 0 for layer in named) or 1 for key in ("bytes", "time_ms", "sensitivity")}
    weight = [max((layer.get(key) or 0) / total for key, total in totals.items()) for layer in named]
    kept = set(sorted(range(len(named)), key=lambda at: -weight[at])[: max(1, most)])
    lighter = [layer for at, layer in enumerate(named) if at not in kept]
    return [*(layer for at, layer in enumerate(named) if at in kept), _together(lighter), *rest]


def _together(lighter: Sequence[Layer]) -> Layer:
    def total(key: str) -> float | None:
        values = [layer[key] for layer in lighter if layer.get(key) is not None]
        return sum(values) if values else None

    keys = ("macs", "bytes", "bytes_after", "time_ms", "time_after_ms")
    return {"name": f"{len(lighter)} lighter layers", "several": True, **{key: total(key) for key in keys}}


def _largest(layers: Sequence[Layer], column: Column) -> float:
    return max((float(layer.get(key) or 0) for layer in layers for key in (column.was, column.now)), default=0.0)


def _ranks(layers: Sequence[Layer], column: Column) -> list[int]:
    """The place of each layer when the largest comes first; what is no single layer stays last."""

    def value(at: int) -> tuple[bool, float]:
        layer = layers[at]
        amount = layer.get(column.was) if column.was else layer.get(column.now)
        return "several" in layer or layer.get("name") == OTHERS, -float(amount or 0)

    order = sorted(range(len(layers)), key=value)
    return [order.index(at) for at in range(len(layers))]


def _row(
    layer: Layer, at: int, columns: Sequence[Column], largest: Mapping[str, float], ranks: Mapping[str, Sequence[int]]
) -> Markup:
    name, macs = str(layer.get("name") or "?"), layer.get("macs")
    about = [str(layer.get("op") or ""), f"{figures.count(macs)} MACs" if macs else "", str(layer.get("note") or "")]
    said = tag("small", " · ".join(part for part in about if part))
    first = tag("div", short_name(name), said, role="rowheader", title=name if short_name(name) != name else None)
    cells = [_cell(layer, column, largest[column.key]) for column in columns]
    order = ";".join(f"--{column.key}:{ranks[column.key][at]}" for column in columns)
    return tag("div", first, *cells, role="row", class_="row", style=order)


def _cell(layer: Layer, column: Column, largest: float) -> Markup:
    was, now = layer.get(column.was) if column.was else None, layer.get(column.now)
    bars = [
        tag("i", class_=kind, style=f"width:{100 * float(value) / largest:.3g}%")
        for kind, value in (("was", was), ("now", now))
        if value
    ]
    words = " → ".join(column.write(value) for value in (was, now) if value is not None) or figures.NONE
    return tag("div", tag("span", *bars, class_="track"), tag("span", words), role="cell", class_=column.key)


def _orders(group: str, keys: Sequence[str]) -> Markup:
    buttons = [
        tag("label", tag("input", type="radio", name=group, value=key, checked="" if key == "model" else None), words)
        for key, words in ORDERS
        if key == "model" or key in keys
    ]
    return tag("fieldset", tag("legend", "Order"), *buttons)


def _summary(layers: Sequence[Layer]) -> Markup | None:
    said = [join(item.lead, tag("b", item.name), item.rest, " ") for item in standouts(layers)]
    if not any(layer.get("bytes_after") is not None for layer in layers) and any(layer.get("time_after_ms") for layer in layers):
        said.append(join("The artifact is another network: its layers are not told apart here."))
    return tag("p", join(*said), class_="facts") if said else None


def standouts(layers: Sequence[Layer]) -> list[Standout]:
    """What stands out of a report's layers, a sentence each: the heaviest, the slowest and the most sensitive one."""
    named = [layer for layer in layers if layer.get("name") != OTHERS]
    found = (_heaviest(named), _slowest(layers), _touchiest(named))
    return [item for item in found if item is not None]


def _heaviest(named: Sequence[Layer]) -> Standout | None:
    total = sum(layer.get("bytes") or 0 for layer in named)
    if not total:
        return None
    heaviest = max(named, key=lambda layer: layer.get("bytes") or 0)
    return Standout("", _called(heaviest), f" holds {figures.percent(heaviest['bytes'] / total)} of the original's weights.")


def _slowest(layers: Sequence[Layer]) -> Standout | None:
    known = [layer for layer in layers if layer.get("name") != OTHERS]
    key = "time_after_ms" if any(layer.get("time_after_ms") for layer in known) else "time_ms"
    named = [layer for layer in known if layer.get(key)]
    if not named:
        return None
    total = sum(layer.get(key) or 0 for layer in layers)
    slowest = max(named, key=lambda layer: layer[key])
    rest = 1 - sum(layer[key] for layer in named) / total
    whose = "artifact" if key == "time_after_ms" else "original"
    outside = f", nodes that are no layer {figures.percent(rest)}" if rest > 0.005 else ""
    return Standout("", _called(slowest), f" takes {figures.percent(slowest[key] / total)} of the {whose}'s time{outside}.")


def _touchiest(named: Sequence[Layer]) -> Standout | None:
    probed = [layer for layer in named if layer.get("sensitivity")]
    if not probed:
        return None
    worst = max(probed, key=lambda layer: layer["sensitivity"])
    return Standout("Most sensitive: ", _called(worst), f", {figures.percent(worst['sensitivity'])} error.")


def _called(layer: Layer) -> str:
    return short_name(str(layer.get("name") or "?"))
