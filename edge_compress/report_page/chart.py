"""Scatter charts as inline SVG: candidates, their Pareto front, the float original and what was chosen.

Shape says what a point is and colour only repeats it; every point carries its figures as a title. Knows nothing of reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_compress.report_page.markup import Markup, join, tag

WIDTH, HEIGHT = 400, 265
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46
LINE, LETTER, REACH = 15, 7.6, 8
"""height and width that a label's text needs, and half the size of a mark"""
ORDER = ("tried", "float", "chosen")
"""what is drawn later lies above"""


@dataclass(frozen=True)
class Point:
    """One point in the units of the axes. ``kind`` is float, chosen or tried; ``label`` is written beside it; ``spread`` is the
    interval of y that is drawn through it."""

    x: float
    y: float
    kind: str
    title: str
    label: str = ""
    spread: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axis:
    """What an axis shows. ``write`` formats a tick; ``low`` to ``high`` is shown at least; what lies below ``floor`` becomes an
    arrow at the edge."""

    label: str
    write: Callable[[float], str]
    higher_is_better: bool = False
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    from_zero: bool = True
    limit: float | None = None
    """what must not be passed, drawn as a line where it lies in the picture"""
    step_base: float = 1.0
    """ticks fall on 1, 2 and 5 times powers of ten of this"""


@dataclass(frozen=True)
class Scale:
    """Maps a value range onto pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of ``value``."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def pareto_front(points: Sequence[Point], *, higher_is_better: bool) -> list[Point]:
    """The points that no other beats in both x (smaller is better) and y, by rising x."""
    front: list[Point] = []
    sign = -1.0 if higher_is_better else 1.0
    for point in sorted(points, key=lambda item: (item.x, sign * item.y)):
        if not front or sign * point.y < sign * front[-1].y:
            front.append(point)
    return front


def scatter(points: Sequence[Point], x_axis: Axis, y_axis: Axis, *, name: str) -> Markup:
    """The chart of ``points``; a sentence instead where there are none."""
    if not points:
        return tag("p", f"{name}: nothing was measured.", class_="empty")
    x = Scale(*_range([point.x for point in points], x_axis), LEFT, WIDTH - RIGHT)
    y = Scale(*_range([point.y for point in points], y_axis), HEIGHT - BOTTOM, TOP)
    seen = [point for point in points if y(point.y) <= y.start] or points
    front = pareto_front(seen, higher_is_better=y_axis.higher_is_better)
    drawn = sorted(points, key=lambda point: ORDER.index(point.kind))
    better = "higher" if y_axis.higher_is_better else "lower"
    said = f"{name}. {len(points)} points, {len(front)} on the Pareto front; {better} is better. " + "; ".join(
        point.title for point in points if point.kind != "tried"
    )
    marks = [_mark(point, x, y) for point in drawn]
    spreads = [_spread(point, x, y) for point in drawn if point.spread]
    body = join(
        _grid(x, y, x_axis, y_axis),
        _front(front, x, y, y.start if y_axis.higher_is_better else y.end),
        *spreads,
        _limits(x, y, x_axis, y_axis),
        _labels(drawn, x, y),
        *marks,
    )
    return tag("svg", tag("title", said), body, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="chart")


def ticks(low: float, high: float, count: int, base: float = 1.0) -> list[float]:
    """About ``count`` round values between ``low`` and ``high``."""
    rough = (high - low) / count / base
    power = 10.0 ** math.floor(math.log10(rough))
    step = base * power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _range(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    values = [*values, *(bound for bound in (axis.low, axis.high) if bound is not None)]
    low, high = min(values), max(values)
    if axis.floor is not None:
        low = max(low, min(axis.floor, high))
    if axis.from_zero:
        return 0.0, (high or 1.0) * 1.08
    margin = (high - low) * 0.1 or abs(high) * 0.01 or 1.0
    return low - margin, high + margin


def _grid(x: Scale, y: Scale, x_axis: Axis, y_axis: Axis) -> Markup:
    lines: list[Markup] = []
    for value in ticks(y.low, y.high, 5, y_axis.step_base):
        at = round(y(value), 1)
        lines.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        lines.append(tag("text", y_axis.write(value), x=LEFT - 6, y=at + 4, text_anchor="end"))
    for value in ticks(x.low, x.high, 5, x_axis.step_base):
        at, said = round(x(value), 1), x_axis.write(value)
        anchor = "end" if at + len(said) * LETTER / 2 > WIDTH else "middle"
        lines.append(tag("text", said, x=at if anchor == "middle" else WIDTH, y=HEIGHT - BOTTOM + 17, text_anchor=anchor))
    base = HEIGHT - BOTTOM
    lines.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis"))
    lines.append(tag("text", x_axis.label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle", class_="name"))
    return tag("g", *lines, aria_hidden="true")


def _limits(x: Scale, y: Scale, x_axis: Axis, y_axis: Axis) -> Markup | None:
    lines: list[Markup] = []
    if x_axis.limit is not None and x.low <= x_axis.limit <= x.high:
        at = round(x(x_axis.limit), 1)
        lines.append(tag("path", tag("title", f"limit: {x_axis.write(x_axis.limit)}"), d=f"M{at} {y.start}V{y.end}"))
    if y_axis.limit is not None and y.low <= y_axis.limit <= y.high:
        at = round(y(y_axis.limit), 1)
        lines.append(tag("path", tag("title", f"limit: {y_axis.write(y_axis.limit)}"), d=f"M{x.start} {at}H{x.end}"))
    return tag("g", *lines, class_="limit") if lines else None


def _front(front: Sequence[Point], x: Scale, y: Scale, worst: float) -> Markup:
    """In steps from the ``worst`` edge to the right one: beyond the line lies what nobody reached."""
    steps = [f"M{x(front[0].x):.1f},{worst:.1f}V{_seen(front[0], y):.1f}"]
    steps += [f"H{x(point.x):.1f}V{_seen(point, y):.1f}" for point in front[1:]]
    return tag("path", d="".join([*steps, f"H{x.end:.1f}"]), class_="front")


def _mark(point: Point, x: Scale, y: Scale) -> Markup:
    across, down = round(x(point.x), 1), round(y(point.y), 1)
    title = tag("title", point.title)
    if down > y.start + 0.5:
        return tag("path", title, d=f"M{across - 5} {y.start - 9}h10l-5 8z", class_=f"off {point.kind}")
    if point.kind == "float":
        return tag("path", title, d=f"M{across} {down - 7}l7 7l-7 7l-7 -7z", class_="float")
    if point.kind == "chosen":
        return tag("g", title, tag("circle", cx=across, cy=down, r=8), tag("circle", cx=across, cy=down, r=4), class_="chosen")
    return tag("circle", title, cx=across, cy=down, r=4.5, class_="tried")


def _spread(point: Point, x: Scale, y: Scale) -> Markup:
    low, high = (round(min(max(y(value), y.end), y.start), 1) for value in point.spread or (point.y, point.y))
    across = round(x(point.x), 1)
    return tag(
        "path", d=f"M{across} {low}V{high}M{across - 4} {low}h8M{across - 4} {high}h8", class_="spread", aria_hidden="true"
    )


def _labels(points: Sequence[Point], x: Scale, y: Scale) -> Markup:
    """Labels beside their points, moved down to where they cover nothing, with a line to the point they left."""
    written: list[Markup] = []
    taken = [_box(x(point.x) - REACH, _seen(point, y) - REACH, 2 * REACH, 2 * REACH) for point in points]
    for point in sorted((point for point in points if point.label), key=lambda item: (_seen(item, y), item.x)):
        across, beside = x(point.x), _seen(point, y)
        right = across < (LEFT + WIDTH) * 0.55
        at, width = across + (12 if right else -12), len(point.label) * LETTER
        down = beside
        while any(_touch(_box(at if right else at - width, down - LINE / 2, width, LINE), other) for other in taken):
            down += LINE / 3
        if down > beside and down > y.start:
            continue  # no room: the mark's title still says it
        taken.append(_box(at if right else at - width, down - LINE / 2, width, LINE))
        if down > beside:
            written.append(tag("line", x1=round(across, 1), y1=round(beside, 1), x2=at, y2=round(down, 1), class_="leader"))
        anchor = "start" if right else "end"
        written.append(tag("text", point.label, x=round(at, 1), y=round(down + 4, 1), text_anchor=anchor, class_="label"))
    return tag("g", *written, aria_hidden="true")


def _seen(point: Point, y: Scale) -> float:
    """The height at which the point is drawn."""
    return min(y(point.y), y.start)


def _box(left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
    return left, top, left + width, top + height


def _touch(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
