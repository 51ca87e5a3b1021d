"""The figures of an artifact as tiles: each large, beside it the original's with a bar for the ratio, and the limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_compress.report_page import figures
from edge_compress.report_page.markup import Markup, join, tag

Entry = Mapping[str, Any]


def tiles(result: Entry, original: Entry) -> Markup:
    """All figures that are known of ``result``; energy only where it is."""
    limits = result.get("limits") or {}
    shown = (
        _bytes("Installed", "bytes", result, original, limits.get("storage_bytes")),
        _download(result, original),
        _latency(result.get("latency_ms") or {}, original.get("latency_ms") or {}, limits.get("latency_p95_ms")),
        _quality(result.get("quality") or {}, limits.get("max_drop")),
        _bytes("Peak memory", "peak_memory_bytes", result, original, limits.get("memory_bytes")),
        _energy(result.get("energy_mj") or {}, original.get("energy_mj") or {}),
    )
    return tag("dl", *shown, class_="tiles")


def _bytes(term: str, key: str, result: Entry, original: Entry, limit: float | None) -> Markup:
    value = result.get(key)
    asked = _limit(f"limit {figures.size(limit)}", value, limit)
    return _tile(term, figures.size(value), _share(value, original.get(key), figures.size), asked)


def _download(result: Entry, original: Entry) -> Markup:
    sent = result.get("download_bytes")
    return _tile("Download", figures.size(sent), _share(sent, original.get("bytes"), lambda whole: "the original"))


def _latency(own: Entry, base: Entry, limit: float | None) -> Markup:
    ratio, p95 = own.get("ratio_to_float"), own.get("p95")
    tail = f"p95 {figures.milliseconds(p95)}" if p95 is not None else ""
    beside = tag("small", tail) if tail else None
    if ratio is not None:
        beside = _bar(
            ratio, f"{figures.ratio(ratio)} the original's {figures.milliseconds(base.get('p50'))}, {tail}".rstrip(", ")
        )
    asked = _limit(f"limit for p95 {figures.milliseconds(limit)}", p95, limit)
    return _tile("Latency", figures.milliseconds(own.get("p50")), beside, asked)


def _quality(quality: Entry, most: float | None) -> Markup:
    metric = str(quality.get("metric") or "quality")
    asked = _limit(f"may lose {figures.drop(metric, most).lstrip('−')}", quality.get("drop"), most)
    return _tile(metric, figures.quality(metric, quality.get("value")), tag("small", _against(metric, quality)), asked)


def _against(metric: str, quality: Entry) -> str:
    if quality.get("value") is None:
        return "not measured"
    bounds = quality.get("confidence95")
    low, high = (figures.quality(metric, bound) for bound in bounds) if bounds else ("", "")
    within = f", 95 % between {low} and {high}" if bounds else ""
    counted = f" on {quality['samples']} samples" if quality.get("samples") else ""
    return f"{figures.drop(metric, quality.get('drop'))} against {figures.quality(metric, quality.get('float'))}{within}{counted}"


def _energy(own: Entry, base: Entry) -> Markup | None:
    if own.get("value") is None:
        return None
    source = f" ({own['source']})" if own.get("source") else ""
    beside = _share(own["value"], base.get("value"), figures.millijoules)
    return _tile(f"Energy{source}", figures.millijoules(own["value"]), beside)


def _limit(said: str, value: float | None, limit: float | None) -> Markup | None:
    """What was asked for, and whether it is missed."""
    if limit is None:
        return None
    missed = value is not None and value > limit
    return tag("small", f"✕ {said}" if missed else said, class_="bad" if missed else None)


def _tile(term: str, value: str, beside: Markup | None, asked: Markup | None = None) -> Markup:
    return tag("div", tag("dt", term), tag("dd", tag("b", value), beside, asked))


def _share(value: float | None, base: float | None, write: Callable[[float], str]) -> Markup | None:
    return None if value is None or not base else _bar(value / base, f"{figures.percent(value / base)} of {write(base)}")


def _bar(ratio: float, said: str) -> Markup:
    """Full at 1, the original; beyond it in another colour."""
    bar = tag("i", class_="over" if ratio > 1 else "now", style=f"width:{100 * min(ratio, 1):.3g}%")
    return join(tag("span", bar, class_="track", aria_hidden="true"), tag("small", said))
